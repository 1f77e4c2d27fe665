package steeple

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl"
	"github.com/hashicorp/hcl/hcl/ast"
	configv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/service/common/config/v1"
	"github.com/spiffe/spire/pkg/common/catalog"
)

const (
	defaultNamespace      = "default"
	defaultStartupTimeout = 30 * time.Second
	defaultCallTimeout    = 15 * time.Second
	endpointsMax          = 64
)

// configuration is what stands in the plugin's block, checked.
type configuration struct {
	endpoints      []string
	namespace      string
	tls            *tlsFiles
	startupTimeout time.Duration
	callTimeout    time.Duration
}

// block is the plugin's block as it is written.
type block struct {
	Endpoints      []string `hcl:"endpoints"`
	CAFile         string   `hcl:"ca_file"`
	CertFile       string   `hcl:"cert_file"`
	KeyFile        string   `hcl:"key_file"`
	ServerName     string   `hcl:"server_name"`
	StartupTimeout string   `hcl:"startup_timeout"`
	CallTimeout    string   `hcl:"call_timeout"`
	Namespace      string   `hcl:"namespace"`
}

var knownKeys = []string{
	"endpoints", "ca_file", "cert_file", "key_file", "server_name", "startup_timeout", "call_timeout", "namespace",
}

// parseConfiguration reads the block and collects every fault of it, so that an operator mends them at once.
func parseConfiguration(text string) (*configuration, []error) {
	root, err := hcl.Parse(text)
	if err != nil {
		return nil, []error{fmt.Errorf("configuration is not HCL: %w", err)}
	}
	if faults := unknownKeys(root); len(faults) > 0 {
		return nil, faults
	}
	var raw block
	if err := hcl.DecodeObject(&raw, root); err != nil {
		return nil, []error{fmt.Errorf("configuration: %w", err)}
	}
	return raw.check()
}

func unknownKeys(root *ast.File) (faults []error) {
	list, ok := root.Node.(*ast.ObjectList)
	if !ok {
		return []error{errors.New("configuration is not a list of keys")}
	}
	for _, item := range list.Items {
		if len(item.Keys) == 0 {
			continue
		}
		name, _ := item.Keys[0].Token.Value().(string)
		if !slices.Contains(knownKeys, name) {
			faults = append(faults, fmt.Errorf("unknown key %q; known are %s", name, strings.Join(knownKeys, ", ")))
		}
	}
	return faults
}

func (raw *block) check() (*configuration, []error) {
	var faults []error
	fault := func(format string, arguments ...any) { faults = append(faults, fmt.Errorf(format, arguments...)) }

	checked := &configuration{namespace: raw.Namespace}
	if checked.namespace == "" {
		checked.namespace = defaultNamespace
	}
	checked.startupTimeout = duration("startup_timeout", raw.StartupTimeout, defaultStartupTimeout, fault)
	checked.callTimeout = duration("call_timeout", raw.CallTimeout, defaultCallTimeout, fault)

	switch {
	case raw.CAFile != "":
		checked.tls = &tlsFiles{
			authority: raw.CAFile, certificate: raw.CertFile, key: raw.KeyFile, serverName: raw.ServerName,
		}
		if (raw.CertFile == "") != (raw.KeyFile == "") {
			fault("cert_file and key_file belong together: one of them is missing")
		} else if _, err := checked.tls.load(); err != nil {
			fault("%w", err)
		}
	case raw.CertFile != "" || raw.KeyFile != "" || raw.ServerName != "":
		fault("ca_file is missing: without an authority that vouches for the nodes, connections are not encrypted, " +
			"and cert_file, key_file and server_name have no effect")
	}

	if len(raw.Endpoints) == 0 {
		fault("endpoints is missing: name at least one node as \"host:port\"")
	}
	if len(raw.Endpoints) > endpointsMax {
		fault("endpoints has %d nodes, %d are allowed", len(raw.Endpoints), endpointsMax)
		return nil, faults
	}
	for _, endpoint := range raw.Endpoints {
		address, err := parseAddress(endpoint, checked.tls != nil)
		if err != nil {
			fault("endpoints: %w", err)
		} else if !slices.Contains(checked.endpoints, address) {
			checked.endpoints = append(checked.endpoints, address)
		}
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return checked, nil
}

func duration(key, text string, otherwise time.Duration, fault func(string, ...any)) time.Duration {
	if text == "" {
		return otherwise
	}
	value, err := time.ParseDuration(text)
	if err != nil || value <= 0 {
		fault("%s: %q is no positive duration such as \"15s\"", key, text)
		return otherwise
	}
	return value
}

// parseAddress makes host:port of an address. A scheme is not needed; one that says something else about encryption
// than the configuration does is refused, because an address must not decide that.
func parseAddress(text string, encrypted bool) (string, error) {
	if scheme, rest, found := strings.Cut(text, "://"); found {
		expected := "http"
		if encrypted {
			expected = "https"
		}
		if scheme != expected {
			return "", fmt.Errorf("%q: the scheme has to be %q, or left out", text, expected)
		}
		text = strings.TrimRight(rest, "/")
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return "", fmt.Errorf("%q is no host:port", text)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil || host == "" {
		return "", fmt.Errorf("%q is no host:port", text)
	}
	if _, err := url.Parse("//" + text); err != nil {
		return "", fmt.Errorf("%q is no host:port", text)
	}
	return text, nil
}

// Validate says what is wrong with a configuration. It reads files and connects nowhere.
func (store *DataStore) Validate(
	_ context.Context, _ catalog.CoreConfig, text string,
) (*configv1.ValidateResponse, error) {
	_, faults := parseConfiguration(text)
	response := &configv1.ValidateResponse{Valid: len(faults) == 0}
	for _, fault := range faults {
		response.Notes = append(response.Notes, fault.Error())
	}
	return response, nil
}

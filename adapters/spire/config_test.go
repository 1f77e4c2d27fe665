package steeple

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/sirupsen/logrus/hooks/test"
	"github.com/spiffe/spire/pkg/common/catalog"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestConfigurationFaults(t *testing.T) {
	directory := t.TempDir()
	makeCertificates(t, directory, 1)
	file := func(name string) string { return filepath.Join(directory, name) }
	for text, expected := range map[string][]string{
		`endpoints = ["a:1"`: {"configuration is not HCL"},
		``:                   {"endpoints is missing"},
		"endpoints = [\"a:1\"]\nendpoint = \"b:1\"":                          {`unknown key "endpoint"`},
		"endpoints = [\"a:1\"]\nendpoints = [\"b:1\"]":                       {`"endpoints" at 2:1 was already set`},
		`endpoints = ["a", "b:x", ":5", "a:70000"]`:                          {`"a" is no host:port`, `"b:x" is`, `":5" is`, `"a:70000" is`},
		`endpoints = ["https://a:1"]`:                                        {`the scheme has to be "http"`},
		"endpoints = [\"a:1\"]\ncall_timeout = \"soon\"":                     {`call_timeout: "soon"`},
		"endpoints = [\"a:1\"]\nstartup_timeout = \"-1s\"":                   {`startup_timeout: "-1s"`},
		"endpoints = [\"a:1\"]\ncert_file = \"c.pem\"":                       {"ca_file is missing"},
		"endpoints = [\"a:1\"]\nca_file = \"missing.pem\"":                   {"ca_file: "},
		"endpoints = [5, {}]":                                                {"configuration"},
		"endpoints = [\"a:1\"]\nca_file = \"" + file("node-1-key.pem") + `"`: {"no certificate in PEM"},
		"endpoints = [\"a:1\"]\nca_file = \"" + file("authority.pem") + "\"\ncert_file = \"x\"": {
			"cert_file and key_file belong together"},
		"endpoints = [\"a:1\"]\nca_file = \"" + file("authority.pem") + "\"\ncert_file = \"" + file("node-1.pem") +
			"\"\nkey_file = \"" + file("spire-server-key.pem") + `"`: {"cert_file and key_file: "},
	} {
		log, _ := test.NewNullLogger()
		store := New(log)
		response, err := store.Validate(context.Background(), catalog.CoreConfig{}, text)
		require.NoError(t, err)
		require.False(t, response.Valid, text)
		require.Len(t, response.Notes, len(expected), "%s: %q", text, response.Notes)
		for index, note := range expected {
			require.Contains(t, response.Notes[index], note, text)
		}
		require.ErrorContains(t, store.Configure(context.Background(), text), expected[0])
	}
}

func TestConfigurationDefaults(t *testing.T) {
	directory := t.TempDir()
	makeCertificates(t, directory, 1)
	checked, faults := parseConfiguration(`endpoints = ["http://a.example:7400/", "b.example:7400", "a.example:7400"]`)
	require.Empty(t, faults)
	require.Equal(t, &configuration{
		endpoints: []string{"a.example:7400", "b.example:7400"}, namespace: "default",
		startupTimeout: 30 * time.Second, callTimeout: 15 * time.Second,
	}, checked)
	checked, faults = parseConfiguration(`
		endpoints = ["[::1]:7400"]
		ca_file = "` + filepath.Join(directory, "authority.pem") + `"
		namespace = "prod"
		call_timeout = "2s"
	`)
	require.Empty(t, faults)
	require.Equal(t, []string{"[::1]:7400"}, checked.endpoints)
	require.Equal(t, 2*time.Second, checked.callTimeout)
	require.NotNil(t, checked.tls)
}

func TestNothingIsAskedBeforeConfigurationAndBehindTheEnd(t *testing.T) {
	log, _ := test.NewNullLogger()
	store := New(log)
	_, err := store.CountBundles(context.Background())
	require.Equal(t, codes.FailedPrecondition, status.Code(err))
	require.NoError(t, store.Close())
	require.NoError(t, store.Close())
	_, err = store.CountBundles(context.Background())
	require.ErrorContains(t, err, "closed")
	require.ErrorContains(t, store.Configure(context.Background(), `endpoints = ["a:1"]`), "closed")
}

func TestNobodyThereIsSaidAfterTheStartupTimeout(t *testing.T) {
	log, _ := test.NewNullLogger()
	store := New(log)
	begun := time.Now()
	err := store.Configure(context.Background(), `
		endpoints = ["`+freeAddress(t)+`"]
		startup_timeout = "300ms"
	`)
	require.ErrorContains(t, err, "connection refused")
	require.Less(t, time.Since(begun), 5*time.Second)
}

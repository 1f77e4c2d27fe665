package steeple

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/require"

	"steeple.internal/adapters/spire/internal/wire/adminv1"
)

// programVariable names the steeple program that the tests start; without it they are skipped.
const programVariable = "STEEPLE_PROGRAM"

// group is a group of Steeple processes.
type group struct {
	program      string
	directory    string
	encrypted    bool
	clients      []string
	arguments    [][]string
	certificates string

	lock      sync.Mutex
	processes []*exec.Cmd
}

// startGroup starts so many nodes and stops them when the test is over. A group of several is encrypted.
func startGroup(t *testing.T, nodes int) *group {
	t.Helper()
	program := os.Getenv(programVariable)
	if program == "" {
		t.Skipf("%s does not name a steeple program", programVariable)
	}
	g := &group{program: program, directory: t.TempDir(), encrypted: nodes > 1, processes: make([]*exec.Cmd, nodes)}
	g.certificates = filepath.Join(g.directory, "certificates")
	var initial []string
	peers := make([]string, nodes)
	for index := range nodes {
		g.clients = append(g.clients, freeAddress(t))
		peers[index] = freeAddress(t)
		initial = append(initial, fmt.Sprintf("%d=%s/%s", index+1, peers[index], g.clients[index]))
	}
	if g.encrypted {
		makeCertificates(t, g.certificates, nodes)
	}
	for index := range nodes {
		arguments := []string{
			"serve", "--data", filepath.Join(g.directory, fmt.Sprint("node-", index+1)),
			"--listen", g.clients[index], "--http-listen", "127.0.0.1:0",
		}
		if g.encrypted {
			arguments = append(arguments,
				"--node", fmt.Sprint(index+1), "--initial", strings.Join(initial, ","), "--cluster-listen", peers[index],
				"--tls-certificate", g.file(fmt.Sprintf("node-%d.pem", index+1)),
				"--tls-key", g.file(fmt.Sprintf("node-%d-key.pem", index+1)),
				"--tls-authority", g.file("authority.pem"), "--roles-read-write", "*=cn:spire-server")
		}
		g.arguments = append(g.arguments, arguments)
	}
	t.Cleanup(func() {
		for index := range nodes {
			g.kill(index)
		}
		if t.Failed() {
			g.showLogs(t)
		}
	})
	for index := range nodes {
		g.start(t, index)
	}
	return g
}

func (g *group) file(name string) string {
	return filepath.Join(g.certificates, name)
}

func (g *group) start(t *testing.T, index int) {
	t.Helper()
	log, err := os.OpenFile(g.logPath(index), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	defer log.Close()
	command := exec.Command(g.program, g.arguments[index]...)
	command.Stdout, command.Stderr = log, log
	require.NoError(t, command.Start())
	g.lock.Lock()
	defer g.lock.Unlock()
	g.processes[index] = command
}

// kill ends a process as a crash would.
func (g *group) kill(index int) {
	g.lock.Lock()
	command := g.processes[index]
	g.processes[index] = nil
	g.lock.Unlock()
	if command != nil {
		_ = command.Process.Kill()
		_ = command.Wait()
	}
}

func (g *group) logPath(index int) string {
	return filepath.Join(g.directory, fmt.Sprintf("node-%d.log", index+1))
}

func (g *group) showLogs(t *testing.T) {
	for index := range g.clients {
		content, _ := os.ReadFile(g.logPath(index))
		lines := bytes.Split(content, []byte("\n"))
		t.Logf("node %d ends with:\n%s", index+1, bytes.Join(lines[max(0, len(lines)-20):], []byte("\n")))
	}
}

// configuration is the plugin's block for a namespace of the group.
func (g *group) configuration(namespace string, more ...string) string {
	quoted := make([]string, 0, len(g.clients))
	for _, address := range g.clients {
		quoted = append(quoted, fmt.Sprintf("%q", address))
	}
	lines := []string{
		fmt.Sprintf("endpoints = [%s]", strings.Join(quoted, ", ")), fmt.Sprintf("namespace = %q", namespace),
	}
	if g.encrypted {
		lines = append(lines,
			fmt.Sprintf("ca_file = %q", g.file("authority.pem")),
			fmt.Sprintf("cert_file = %q", g.file("spire-server.pem")),
			fmt.Sprintf("key_file = %q", g.file("spire-server-key.pem")))
	}
	return strings.Join(append(lines, more...), "\n")
}

// store opens a namespace of the group.
func (g *group) store(t *testing.T, namespace string, more ...string) (*DataStore, *test.Hook) {
	t.Helper()
	log, hook := test.NewNullLogger()
	store := New(log)
	require.NoError(t, store.Configure(context.Background(), g.configuration(namespace, more...)))
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return store, hook
}

// leader is the position of the node that decides.
func (g *group) leader(t *testing.T, store *DataStore) int {
	t.Helper()
	c, err := store.use()
	require.NoError(t, err)
	var leader int
	require.Eventually(t, func() bool {
		answer := new(adminv1.ClusterStatusResponse)
		asked := call{
			method: adminv1.Admin_ClusterStatus_FullMethodName, request: &adminv1.ClusterStatusRequest{}, to: routeAny,
		}
		if c.unary(context.Background(), asked, answer) != nil || answer.LeaderNodeId == 0 {
			return false
		}
		leader = int(answer.LeaderNodeId) - 1
		return true
	}, 20*time.Second, 50*time.Millisecond)
	return leader
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	return listener.Addr().String()
}

// makeCertificates makes an authority, a certificate for each node, and one for a spire-server.
func makeCertificates(t *testing.T, directory string, nodes int) {
	t.Helper()
	require.NoError(t, os.MkdirAll(directory, 0o700))
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, authority, authority, authorityKey.Public(), authorityKey)
	require.NoError(t, err)
	writePEM(t, filepath.Join(directory, "authority.pem"), "CERTIFICATE", der)

	names := []string{"spire-server"}
	for index := range nodes {
		names = append(names, fmt.Sprint("node-", index+1))
	}
	for index, name := range names {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		certificate := &x509.Certificate{
			SerialNumber: big.NewInt(int64(index + 2)), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			KeyUsage:    x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		}
		der, err := x509.CreateCertificate(rand.Reader, certificate, authority, key.Public(), authorityKey)
		require.NoError(t, err)
		writePEM(t, filepath.Join(directory, name+".pem"), "CERTIFICATE", der)
		encoded, err := x509.MarshalPKCS8PrivateKey(key)
		require.NoError(t, err)
		writePEM(t, filepath.Join(directory, name+"-key.pem"), "PRIVATE KEY", encoded)
	}
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	content := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	require.NoError(t, os.WriteFile(path, content, 0o600))
}

func nullLogger() logrus.FieldLogger {
	log, _ := test.NewNullLogger()
	return log
}

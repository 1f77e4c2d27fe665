package steeple

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"google.golang.org/grpc/credentials"
)

// tlsFileBytesMax is the same limit that nodes have.
const tlsFileBytesMax = 1 << 20

// tlsFiles names the files behind encrypted connections.
type tlsFiles struct {
	authority   string
	certificate string
	key         string
	serverName  string
}

// load reads the files anew, so that certificates may be renewed in place.
func (files *tlsFiles) load() (*tls.Config, error) {
	authority, err := readLimited(files.authority)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authority) {
		return nil, fmt.Errorf("ca_file: %s has no certificate in PEM", files.authority)
	}
	config := &tls.Config{
		RootCAs: pool, ServerName: files.serverName, MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"},
	}
	if files.certificate == "" {
		return config, nil
	}
	certificate, err := readLimited(files.certificate)
	if err != nil {
		return nil, fmt.Errorf("cert_file: %w", err)
	}
	key, err := readLimited(files.key)
	if err != nil {
		return nil, fmt.Errorf("key_file: %w", err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("cert_file and key_file: %w", err)
	}
	config.Certificates = []tls.Certificate{pair}
	return config, nil
}

func readLimited(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, tlsFileBytesMax+1))
	if err != nil {
		return nil, err
	}
	if len(content) > tlsFileBytesMax {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, tlsFileBytesMax)
	}
	return content, nil
}

// fileCredentials are credentials that read their files for every connection.
type fileCredentials struct {
	files *tlsFiles
}

func (c fileCredentials) ClientHandshake(
	ctx context.Context, authority string, connection net.Conn,
) (net.Conn, credentials.AuthInfo, error) {
	config, err := c.files.load()
	if err != nil {
		return nil, nil, err
	}
	return credentials.NewTLS(config).ClientHandshake(ctx, authority, connection)
}

func (c fileCredentials) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are for clients")
}

func (c fileCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls", ServerName: c.files.serverName}
}

func (c fileCredentials) Clone() credentials.TransportCredentials {
	return c
}

func (c fileCredentials) OverrideServerName(string) error {
	return errors.New("set server_name in the configuration")
}

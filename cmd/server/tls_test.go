package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"passbook/internal/pgtest"
)

// certificate makes a certificate for a name that no client connects to, and its key, in PEM.
func certificate(t *testing.T, serial int64) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "bank.example.com"}, DNSNames: []string{"bank.example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// TestTLS serves over TLS, and loads a new certificate once its files have changed and match.
func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	put := func(path string, text []byte) {
		t.Helper()
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, key := certificate(t, 1)
	put(certFile, cert)
	put(keyFile, key)
	settings := []string{"PASSBOOK_TLS_CERT=" + certFile, "PASSBOOK_TLS_KEY=" + keyFile}
	h := host(t, append(settings, "DATABASE_URL="+pgtest.URL(t))...)
	h.awaitReady(t, settings...) // trusts the file, and nothing else
	if code, stdout, stderr := invoke(t.Context(), []string{"status"}, append(settings, "HOME=/", "PASSBOOK_ADDR="+h.addr)...); code != exitOK {
		t.Errorf("status: %d %s %s", code, stdout, stderr)
	}
	// serial returns the serial number of the server's certificate.
	serial := func(protocols ...string) int64 {
		t.Helper()
		conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: protocols}}).DialContext(t.Context(), "tcp", h.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		state := conn.(*tls.Conn).ConnectionState()
		if len(protocols) > 0 && state.NegotiatedProtocol != protocols[0] {
			t.Errorf("the protocol is %q", state.NegotiatedProtocol)
		}
		return state.PeerCertificates[0].SerialNumber.Int64()
	}
	if n := serial("h2"); n != 1 {
		t.Errorf("certificate %d", n)
	}
	cert, key = certificate(t, 2)
	put(certFile, cert)
	// With only half of the new pair written, the server keeps the old pair.
	eventually(t, "the half is noticed", func() bool {
		return serial() == 1 && strings.Contains(h.log.String(), "loading the new certificate failed")
	})
	put(keyFile, key)
	eventually(t, "the new certificate", func() bool { return serial() == 2 })
	h.awaitReady(t, settings...)

	other, _ := certificate(t, 3)
	elsewhere := filepath.Join(dir, "other.crt")
	put(elsewhere, other)
	if code, _, stderr := invoke(t.Context(), []string{"healthcheck"}, "HOME=/", "PASSBOOK_ADDR="+h.addr, "PASSBOOK_TLS_CERT="+elsewhere, settings[1]); code != exitFailed || !strings.Contains(stderr, "does not have the certificate") {
		t.Errorf("healthcheck with another certificate: %d %s", code, stderr)
	}
	if response, err := http.Get("http://" + h.addr + "/livez"); err == nil {
		_ = response.Body.Close()
		if response.StatusCode != http.StatusBadRequest {
			t.Errorf("without TLS: %d", response.StatusCode)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	if strings.Contains(h.log.String(), "PRIVATE") {
		t.Error("the private key is in the log")
	}
	code, _, stderr := invoke(t.Context(), nil, "HOME=/", "PASSBOOK_ADDR=127.0.0.1:0", "PASSBOOK_TLS_CERT="+keyFile, "PASSBOOK_TLS_KEY="+keyFile, "PASSBOOK_LOG_LEVEL=error")
	if code != exitSettings || !strings.Contains(stderr, "PASSBOOK_TLS_CERT") {
		t.Errorf("a certificate that is none: %d %s", code, stderr)
	}
}

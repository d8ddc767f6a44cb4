package app

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"passbook/internal/config"
)

// certificateAge is how long a certificate is used before its files are read again.
const certificateAge = time.Second

// certificates serves the certificate in two files, and loads a new one when they change. It checks the files when a client
// connects, so it needs no goroutine.
type certificates struct {
	certFile, keyFile string
	log               *slog.Logger

	mu        sync.Mutex
	checkedAt time.Time
	cert, key []byte // contents of the files when last read
	current   *tls.Certificate
}

func loadCertificates(certFile, keyFile string, log *slog.Logger) (*certificates, error) {
	c := &certificates{certFile: certFile, keyFile: keyFile, log: log, checkedAt: time.Now()}
	if err := c.reload(); err != nil {
		return nil, config.Usage(fmt.Errorf("PASSBOOK_TLS_CERT and PASSBOOK_TLS_KEY: %w", err))
	}
	return c, nil
}

// config returns the TLS settings of the server.
func (c *certificates) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}
}

func (c *certificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.checkedAt) >= certificateAge {
		c.checkedAt = now
		// Between the writes of the two files they do not match; keep serving the previous pair until they do.
		if err := c.reload(); err != nil {
			c.log.Warn("loading the new certificate failed; serving the previous one", "error", err)
		}
	}
	return c.current, nil
}

// reload reads the files, and loads the certificate if they have changed. The caller holds c.mu or is the only user of c.
func (c *certificates) reload() error {
	cert, err := os.ReadFile(c.certFile)
	if err != nil {
		return fmt.Errorf("read the certificate: %w", err)
	}
	key, err := os.ReadFile(c.keyFile)
	if err != nil {
		return fmt.Errorf("read the certificate's key: %w", err)
	}
	if c.current != nil && bytes.Equal(cert, c.cert) && bytes.Equal(key, c.key) {
		return nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("the certificate and its key: %w", err)
	}
	if c.current != nil {
		c.log.Info("the certificate has changed; serving the new one", "not_after", pair.Leaf.NotAfter)
	}
	c.cert, c.key, c.current = cert, key, &pair
	return nil
}

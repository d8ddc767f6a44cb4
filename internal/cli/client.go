package cli

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"passbook/client"
	"passbook/internal/config"
)

// serverFlag adds the flag that names the server.
func serverFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("server", "", "URL of the running server (default: the one at PASSBOOK_ADDR)")
}

// newClient returns a client of the server at a URL, or of the one at PASSBOOK_ADDR without one, and its URL.
func newClient(server string, cfg *config.Config, opts ...client.Option) (*client.Client, string, error) {
	if server == "" {
		base, transport, err := ownServer(cfg)
		if err != nil {
			return nil, "", err
		}
		server, opts = base, append(opts, client.WithHTTPClient(transport))
	}
	if cfg.Key != "" {
		opts = append(opts, client.WithAPIKey(cfg.Key))
	}
	c, err := client.New(server, opts...)
	if err != nil {
		return nil, "", config.Usage(fmt.Errorf("--server: %w", err))
	}
	return c, server, nil
}

// ownServer returns the URL of the server at PASSBOOK_ADDR and an HTTP client for it. With TLS the client trusts the
// certificate that the settings name, and no other.
func ownServer(cfg *config.Config) (base string, c *http.Client, err error) {
	reachable, err := reachableAddr(cfg.Addr)
	if err != nil {
		return "", nil, err
	}
	if cfg.TLSCert == "" {
		return "http://" + reachable, &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}, nil
	}
	return "https://" + reachable,
		&http.Client{Transport: &http.Transport{TLSClientConfig: trustOwn(cfg.TLSCert), ForceAttemptHTTP2: true}}, nil
}

// reachableAddr returns where to connect to for a server that listens on addr, which may mean every interface.
func reachableAddr(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("address %q: %w", addr, err)
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
}

// explain adds to a client's error what to do about it.
func explain(ctx context.Context, err error, server string) error {
	var p *client.Problem
	_, misuse := errors.AsType[config.UsageError](err)
	switch {
	case err == nil, misuse, ctx.Err() != nil:
		return err
	case errors.As(err, &p):
		return errors.New(advice(p))
	}
	return fmt.Errorf("no response from a server at %s: %w\nRun \"server\" to start one, or name another with --server", server, err)
}

// inCommands puts what a server says about routes into the words of the command line. Longer routes come first.
var inCommands = strings.NewReplacer(
	"open the account with POST /accounts", "open one with server accounts open",
	"GET /accounts/{id}/holds", "server holds ACCOUNT",
	"GET /accounts/{id}/transactions", "server statement ACCOUNT",
	"GET /projections/{id}/replays", "server status",
	"GET /projections/{id}/failures", "server status",
	"GET /projections", "server status",
	"GET /webhooks", "server webhooks list",
	"GET /log/checkpoint has", "the checkpoint that server audit --checkpoint takes has",
	"one POST /commands can carry many commands", "see PASSBOOK_RATE_LIMIT",
	"leave account_id out", "leave --id out",
	"the same Idempotency-Key", "the same --idempotency-key",
	"its Idempotency-Key", "the same --idempotency-key",
	"Idempotency-Key", "--idempotency-key",
	"which If-Match does not name", "which --if-version does not name",
)

// advice returns what a server says about a request that it refuses, and what to do next.
func advice(p *client.Problem) string {
	said := inCommands.Replace(cmp.Or(p.Detail, p.Title))
	if p.Code != "" {
		said += " (" + p.Code + ")"
	}
	if len(p.Errors) > 1 { // a single one is the detail
		for i := range p.Errors {
			said += "\n  " + inCommands.Replace(p.Errors[i].Detail)
		}
	}
	switch {
	case p.Status == http.StatusUnauthorized:
		said += "\nName a key with PASSBOOK_KEY, PASSBOOK_KEY_FILE or --key; server keys create makes one"
	case p.Status == http.StatusForbidden:
		said += "\nserver keys create makes a key with it"
	case p.Code == "account-not-found":
		said += "\nserver accounts finds accounts by the owner's name"
	case p.Code == "":
		said = fmt.Sprintf("the server returned %d: %s", p.Status, said)
	}
	return said
}

// trustOwn accepts only the certificate in the file, whatever name it is for, because commands connect by address.
func trustOwn(certFile string) *tls.Config {
	verify := func(state tls.ConnectionState) error {
		text, err := os.ReadFile(certFile)
		if err != nil {
			return fmt.Errorf("read the certificate: %w", err)
		}
		block, _ := pem.Decode(text)
		if block == nil || len(state.PeerCertificates) == 0 || !bytes.Equal(block.Bytes, state.PeerCertificates[0].Raw) {
			return fmt.Errorf("the server does not have the certificate in %s", certFile)
		}
		return nil
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, VerifyConnection: verify,
		InsecureSkipVerify: true, // verify checks the certificate, without the name
	}
}

package app

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"testing"

	"passbook/internal/config"
)

func TestAnnounce(t *testing.T) {
	t.Parallel()
	quiet := slog.New(slog.DiscardHandler)
	for name, test := range map[string]struct {
		addr string
		cfg  config.Config
		want []string
	}{
		"on loopback": {
			addr: "127.0.0.1:8080", cfg: config.Config{Access: config.Access{Auth: config.AuthNone}},
			want: []string{"http://127.0.0.1:8080/console\n", "http://127.0.0.1:8080/docs", "curl -s http://127.0.0.1:8080/accounts"},
		},
		"on every interface, with TLS, a base path and keys": {
			addr: "0.0.0.0:8443", cfg: config.Config{Access: config.Access{TLSCert: "cert.pem", BasePath: "/bank", Auth: config.AuthKeys}},
			want: []string{"https://127.0.0.1:8443/bank/console", `-H "Authorization: Bearer $PASSBOOK_KEY" https://127.0.0.1:8443/bank/accounts`},
		},
		"on every interface, IPv6": {addr: "[::]:8080", want: []string{"http://[::1]:8080/console"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr, err := net.ResolveTCPAddr("tcp", test.addr)
			if err != nil {
				t.Fatal(err)
			}
			test.cfg.Log = quiet
			var out bytes.Buffer
			announce(test.cfg, addr, &Database{url: "postgres:///x"}, 7, &out)
			for _, want := range test.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("no %q in\n%s", want, &out)
				}
			}
		})
	}
}

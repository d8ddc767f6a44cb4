package main

import (
	"bytes"
	"context"
	"maps"
	"os"
	"strings"
	"testing"

	"passbook/internal/pgtest"
)

func TestMain(m *testing.M) {
	code := pgtest.Run(m)
	_ = os.RemoveAll(binary.dir)
	os.Exit(code)
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args []string
		env  map[string]string
		code int
		// out and err are pieces that must be on stdout and stderr.
		out, err []string
	}{
		"version":   {args: []string{"version"}, out: []string{"passbook dev"}},
		"--version": {args: []string{"--version"}, out: []string{"passbook dev"}},
		"settings that are none": {
			args: []string{"healthcheck", "--addr", "127.0.0.1:1"}, code: 2,
			env: map[string]string{"PASSBOOK_AUHT": "keys", "PASSBOOK_DATABASE_URL": "postgres://u:secret@h/db"},
			err: []string{
				"PASSBOOK_AUHT: there is no such setting; PASSBOOK_AUTH is meant?\nPASSBOOK_DATABASE_URL: there is no such setting",
				"server --help",
			},
		},
		"variables that Kubernetes makes for a service called passbook": {
			args: []string{"healthcheck", "--addr", "127.0.0.1:1"}, code: 1,
			env: map[string]string{
				"PASSBOOK_PORT": "tcp://10.0.0.1:80", "PASSBOOK_SERVICE_HOST": "10.0.0.1", "PASSBOOK_SERVICE_PORT_HTTP": "80",
				"PASSBOOK_PORT_80_TCP_ADDR": "10.0.0.1", "PASSBOOK_DB_SERVICE_HOST": "10.0.0.2", "PASSBOOK_TOOLS": "/var/cache",
			},
			err: []string{"refused"},
		},
		"blanks around a database": {
			env: map[string]string{"DATABASE_URL": " postgres://u:secret@h/db", "PASSBOOK_QUERY_DATABASE_URL": "postgres://u:secret@h/db\n"}, code: 2,
			err: []string{"DATABASE_URL (--database-url): has blanks around it", "PASSBOOK_QUERY_DATABASE_URL (--query-database-url): has blanks around it"},
		},
		"tracing that cannot be": {
			env: map[string]string{
				"OTEL_TRACES_EXPORTER": "zipkin", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317",
			}, code: 2,
			err: []string{`OTEL_TRACES_EXPORTER: "zipkin" is not one that Passbook has; use otlp or none`, `OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" is not one that Passbook speaks; use http/protobuf`},
		},
		"scopes that are none": {
			env: map[string]string{"PASSBOOK_AUTH": "oidc", "PASSBOOK_OIDC_ISSUER": "http://i", "PASSBOOK_OIDC_AUDIENCE": "p", "PASSBOOK_OIDC_SCOPES": "teller=accounts:write,x=money"}, code: 2,
			err: []string{`PASSBOOK_OIDC_SCOPES (--oidc-scopes): "x=money" is not a value and a scope`},
		},
		"completion of a scope":                  {args: []string{"__complete", "keys", "create", "--scope", ""}, out: []string{"accounts:write\n", "projections:admin\n"}},
		"completion of a kind of authentication": {args: []string{"__complete", "--auth", ""}, out: []string{"none\nkeys\noidc\n"}},
		"help":                                   {args: []string{"--help"}, out: []string{"DATABASE_URL", "PASSBOOK_QUERY_DATABASE_URL", "PASSBOOK_DATA_DIR", "PASSBOOK_ADDR", "PASSBOOK_AUTH", "PASSBOOK_INSECURE", "PASSBOOK_HOSTS", "PASSBOOK_CORS_ORIGINS", "PASSBOOK_BASE_PATH", "PASSBOOK_EVENT_SOURCE", "PASSBOOK_EVENT_TYPE_PREFIX", "PASSBOOK_EVENT_SCHEMA_URL", "PASSBOOK_OIDC_ISSUER", "PASSBOOK_OIDC_AUDIENCE", "PASSBOOK_RATE_LIMIT", "PASSBOOK_MAX_STREAMS", "PASSBOOK_MAX_STREAMS_PER_CALLER", "PASSBOOK_TLS_CERT", "PASSBOOK_TLS_KEY", "PASSBOOK_KEY", "PASSBOOK_KEY_FILE", "DATABASE_URL_FILE", "PASSBOOK_QUERY_DATABASE_URL_FILE", "PASSBOOK_LOG_LEVEL", "PASSBOOK_LOG_FORMAT", "127.0.0.1:8080", "migrate", "healthcheck", "version"}},
		"unknown command":                        {args: []string{"sevre"}, code: 2, err: []string{`unknown command "sevre"`, "--help"}},
		"unknown flag":                           {args: []string{"--adr", "x"}, code: 2, err: []string{"unknown flag: --adr"}},
		"open to all": {
			env: map[string]string{"PASSBOOK_ADDR": "0.0.0.0:8080"}, code: 2,
			err: []string{"PASSBOOK_ADDR", "127.0.0.1", "PASSBOOK_INSECURE=true", "PASSBOOK_AUTH=keys", "server keys create", "PASSBOOK_AUTH=oidc", "PASSBOOK_OIDC_ISSUER"},
		},
		"hosts that are none": {env: map[string]string{"PASSBOOK_HOSTS": "bank.example, https://a.example"}, code: 2, err: []string{"PASSBOOK_HOSTS", "https://a.example"}},
		"origins that are none": {
			env: map[string]string{"PASSBOOK_CORS_ORIGINS": "https://app.example, *, https://*.example, app.test, https://b.example/, https://c.example:443, http://ok.example:80"}, code: 2,
			err: []string{`"*" is not`, `"https://*.example" is not`, `"app.test" is not`, `"https://b.example/" is not`, `"https://c.example:443" is not`, `"http://ok.example:80" is not`},
		},
		"a share that is none":     {env: map[string]string{"PASSBOOK_MAX_STREAMS_PER_CALLER": "0"}, code: 2, err: []string{"PASSBOOK_MAX_STREAMS_PER_CALLER", `"0" is not a number`}},
		"a base path that is none": {env: map[string]string{"PASSBOOK_BASE_PATH": "bank"}, code: 2, err: []string{"PASSBOOK_BASE_PATH"}},
		"a base path that climbs":  {args: []string{"--base-path", "/a/../b"}, code: 2, err: []string{"PASSBOOK_BASE_PATH"}},
		"a host with a port":       {args: []string{"--hosts", "a.example:80"}, code: 2, err: []string{"PASSBOOK_HOSTS", "a.example:80"}},
		"open to all, every host":  {env: map[string]string{"PASSBOOK_ADDR": ":8080"}, code: 2, err: []string{"PASSBOOK_INSECURE=true"}},
		"everything wrong at once": {
			args: []string{"--log-level", "loud"},
			env: map[string]string{
				"PASSBOOK_ADDR": "8080", "PASSBOOK_AUTH": "magic", "PASSBOOK_LOG_FORMAT": "xml",
				"DATABASE_URL": "postgres://u:secret@host:notaport/db", "PASSBOOK_RATE_LIMIT": "-1", "PASSBOOK_MAX_STREAMS": "0",
				"PASSBOOK_TLS_CERT": "cert.pem", "PASSBOOK_KEY": "secret", "PASSBOOK_KEY_FILE": "/none/key",
			},
			code: 2,
			err: []string{
				`"8080" is not of the form host:port`, `"magic" is not a kind of authentication; use none, keys or oidc`, `"xml"`, `"loud"`,
				"DATABASE_URL", `"-1" is not a number of requests`, `"0" is not a number of at least 1`, "PASSBOOK_TLS_KEY (--tls-key): is needed too",
				"PASSBOOK_KEY_FILE (--key-file): PASSBOOK_KEY is set as well",
			},
		},
		"events with names that are none": {
			env: map[string]string{
				"PASSBOOK_EVENT_SOURCE": "our bank", "PASSBOOK_EVENT_TYPE_PREFIX": "Bank", "PASSBOOK_EVENT_SCHEMA_URL": "/schemas",
			},
			code: 2,
			err: []string{
				`PASSBOOK_EVENT_SOURCE (--event-source): "our bank" is not a URI reference`,
				`PASSBOOK_EVENT_TYPE_PREFIX (--event-type-prefix): "Bank" is not a reverse domain name`,
				`PASSBOOK_EVENT_SCHEMA_URL (--event-schema-url): "/schemas" is not a URL`,
			},
		},
		"oidc with a bad issuer": {
			env: map[string]string{"PASSBOOK_AUTH": "oidc", "PASSBOOK_OIDC_ISSUER": "login.example.com"}, code: 2,
			err: []string{`PASSBOOK_OIDC_ISSUER (--oidc-issuer): "login.example.com" is not a URL`, "PASSBOOK_OIDC_AUDIENCE (--oidc-audience)"},
		},
		"an issuer without oidc": {
			env: map[string]string{"PASSBOOK_AUTH": "keys", "PASSBOOK_OIDC_ISSUER": "https://login.example.com"}, code: 2,
			err: []string{"PASSBOOK_OIDC_ISSUER", "for PASSBOOK_AUTH=oidc only"},
		},
		"keys without a certificate": {
			env: map[string]string{"PASSBOOK_AUTH": "keys", "PASSBOOK_ADDR": "0.0.0.0:8080", "PASSBOOK_TLS_KEY": "key.pem", "PASSBOOK_RATE_LIMIT": "NaN"}, code: 2,
			err: []string{"PASSBOOK_TLS_CERT (--tls-cert): is needed too", `"NaN"`},
		},
		"two databases": {
			env: map[string]string{"DATABASE_URL": "postgres://u:secret@h/db", "DATABASE_URL_FILE": "/none/url"}, code: 2,
			err: []string{"DATABASE_URL_FILE (--database-url-file): DATABASE_URL is set as well; set one of them"},
		},
		"files that are not there": {
			env: map[string]string{"DATABASE_URL_FILE": "/none/url", "PASSBOOK_QUERY_DATABASE_URL_FILE": "/dev/null"}, code: 2,
			err: []string{"DATABASE_URL_FILE", "/none/url", "PASSBOOK_QUERY_DATABASE_URL_FILE", "is empty"},
		},
		"a replica of nothing": {env: map[string]string{"PASSBOOK_QUERY_DATABASE_URL": "postgres://h/db"}, code: 2, err: []string{"needs DATABASE_URL"}},
		"no home":              {args: []string{"--data-dir", ""}, env: map[string]string{"PASSBOOK_ADDR": "nonsense"}, code: 2, err: []string{"nonsense"}},
		"health of no server":  {args: []string{"healthcheck", "--addr", "127.0.0.1:1"}, code: 1, err: []string{"refused"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := map[string]string{"HOME": t.TempDir()}
			maps.Copy(env, test.env)
			var stdout, stderr bytes.Buffer
			code := run(context.Background(), test.args, environ(env), &stdout, &stderr)
			if code != test.code {
				t.Errorf("exit code %d, want %d; stderr: %s", code, test.code, &stderr)
			}
			for _, want := range test.out {
				if !strings.Contains(stdout.String(), want) {
					t.Errorf("stdout has no %q:\n%s", want, &stdout)
				}
			}
			for _, want := range test.err {
				if !strings.Contains(stderr.String(), want) {
					t.Errorf("stderr has no %q:\n%s", want, &stderr)
				}
			}
			if strings.Contains(stdout.String()+stderr.String(), "secret") {
				t.Error("a password was printed")
			}
		})
	}
}

package config_test

import (
	"io"
	"testing"

	"github.com/spf13/pflag"

	"passbook/internal/config"
)

// TestTracingCanBeTurnedOff checks that the SDK's own variables work as OpenTelemetry specifies.
func TestTracingCanBeTurnedOff(t *testing.T) {
	t.Parallel()
	const endpoint = "http://127.0.0.1:4318"
	for name, test := range map[string]struct {
		env  map[string]string
		want string
	}{
		"nothing":          {nil, ""},
		"an endpoint":      {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}, endpoint + "/v1/traces"},
		"one for traces":   {map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint + "/x"}, endpoint + "/x"},
		"disabled":         {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_SDK_DISABLED": "True"}, ""},
		"not disabled":     {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_SDK_DISABLED": "no"}, endpoint + "/v1/traces"},
		"no exporter":      {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_TRACES_EXPORTER": "none"}, ""},
		"the exporter":     {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_TRACES_EXPORTER": "otlp"}, endpoint + "/v1/traces"},
		"the one protocol": {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, endpoint + "/v1/traces"},
	} {
		environ := []string{"HOME=/"}
		for name, value := range test.env {
			environ = append(environ, name+"="+value)
		}
		s := config.New(environ, "dev")
		s.Register(pflag.NewFlagSet("", pflag.ContinueOnError))
		if cfg, err := s.Load(io.Discard); err != nil || cfg.TracesURL != test.want {
			t.Errorf("%s: %q, %v, want %q", name, cfg.TracesURL, err, test.want)
		}
	}
}

package app

import (
	"context"
	"strconv"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"passbook/internal/projector"
)

// TestGaugesOutliveTheDatabase expects the last known values while the database is unavailable, so that an alert does not resolve.
func TestGaugesOutliveTheDatabase(t *testing.T) {
	t.Parallel()
	states := &fakeStates{all: []projector.Status{{ID: "balances", State: "halted", Position: 7, Head: 9}}}
	metrics := newProjectionMetrics(states, func() bool { return true })
	told := func() string {
		t.Helper()
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(metrics)
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		all := make(map[string]string)
		for _, f := range families {
			all[f.GetName()] = strconv.FormatFloat(f.GetMetric()[0].GetGauge().GetValue(), 'g', -1, 64)
		}
		return "up " + all["passbook_database_up"] + " halted " + all["passbook_projection_halted"] + " head " + all["passbook_projection_head"]
	}
	for _, step := range []struct {
		err  error
		want string
	}{{errStarting, "up 0 halted  head "}, {nil, "up 1 halted 1 head 9"}, {errStarting, "up 0 halted 1 head 9"}, {nil, "up 1 halted 1 head 9"}} {
		states.err = step.err
		if got := told(); got != step.want {
			t.Errorf("with %v: %s, want %s", step.err, got, step.want)
		}
	}
}

type fakeStates struct {
	all []projector.Status
	err error
}

func (f *fakeStates) Projections(context.Context) ([]projector.Status, error) {
	if f.err != nil {
		return nil, f.err
	}
	return f.all, nil
}

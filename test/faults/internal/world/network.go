package world

import (
	"bytes"
	"context"
	"encoding/json"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// Network connects two parties; faults cut, delay and truncate its connections.
type Network struct{ proxy *toxiproxy.Proxy }

// NewNetwork listens on a port of loopback and forwards connections to upstream. The caller closes it.
func NewNetwork(name, upstream string) (*Network, error) {
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	n := &Network{toxiproxy.NewProxy(server, name, "127.0.0.1:0", upstream)}
	return n, n.proxy.Start()
}

// Addr returns the address it listens on.
func (n *Network) Addr() string { return n.proxy.Listen }

// Lead forwards new connections to another upstream from now on, and cuts existing ones.
func (n *Network) Lead(upstream string) error {
	n.proxy.Stop()
	return n.proxy.Update(&toxiproxy.Proxy{Listen: n.proxy.Listen, Upstream: upstream, Enabled: true})
}

// Toxic is a disturbance. Type and Attributes are toxiproxy's.
type Toxic struct {
	Name       string         `json:"name"`
	Type       string         `json:"type"`
	Stream     string         `json:"stream"` // upstream or downstream
	Toxicity   float32        `json:"toxicity"`
	Attributes map[string]any `json:"attributes"`
}

// Disturb begins a disturbance, which Calm ends.
func (n *Network) Disturb(t Toxic) error {
	text, err := json.Marshal(t)
	if err != nil {
		return err
	}
	_, err = n.proxy.Toxics.AddToxicJson(bytes.NewReader(text))
	return err
}

// Calm ends all disturbances, and cuts existing connections, since some may be left half dead.
func (n *Network) Calm(ctx context.Context) error {
	n.proxy.Toxics.ResetToxics(ctx)
	return n.Lead(n.proxy.Upstream)
}

// Close cuts everything.
func (n *Network) Close() { n.proxy.Stop() }

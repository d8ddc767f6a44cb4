package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"passbook/internal/httpapi/apitest"
)

// gate forwards connections to a server, until it is shut: then those that there are, and new ones, are silent or, with refuse, end.
type gate struct {
	shut, refuse atomic.Bool
}

// newGate returns a gate, and a database's URL that leads through it.
func newGate(t *testing.T, database string) (*gate, string) {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	network, upstream := "tcp", u.Host
	if dir := u.Query().Get("host"); dir != "" {
		network, upstream = "unix", dir+"/.s.PGSQL."+u.Query().Get("port")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	g := new(gate)
	go func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial(network, upstream)
			if err != nil || g.refuse.Load() {
				_ = in.Close()
				continue
			}
			go g.forward(in, out)
			go g.forward(out, in)
		}
	}()
	values := u.Query()
	values.Del("host")
	values.Del("port")
	u.Host, u.RawQuery = listener.Addr().String(), values.Encode()
	return g, u.String()
}

// forward copies until one of the connections ends. While the gate is shut it loses what it reads.
func (g *gate) forward(from, to net.Conn) {
	defer func() { _, _ = from.Close(), to.Close() }()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil || g.refuse.Load() {
			return
		}
		if g.shut.Load() {
			continue
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// TestKeysDatabaseTakenAway takes the database of the subjects' keys away from two instances: first it does not respond, then it ends
// connections. What needs a key gets 503 with a problem that names the database, and nothing is stored in plain text; commands
// without text go on. When it is back, all works again.
func TestKeysDatabaseTakenAway(t *testing.T) {
	t.Parallel()
	b := newErasureTestbed(t)
	g, through := newGate(t, b.keys)
	b.settings[1] = "PASSBOOK_SUBJECT_KEYS_DATABASE_URL=" + through
	client := apitest.Client(t)
	type instance struct {
		api

		account string
	}
	var instances []instance
	for range 2 {
		a := api{t, client, b.launch(t, b.log).base}
		id := a.call("POST", "/accounts", `{"owner":"Zoë Quillfeather","currency":"EUR"}`, 201)["account_id"].(string)
		instances = append(instances, instance{a, id})
	}
	for _, refuse := range []bool{false, true} {
		g.shut.Store(true)
		g.refuse.Store(refuse)
		for _, i := range instances {
			text := fmt.Sprintf(`{"account_id":%q,"amount":1,"reference":"quillfeather-salary"}`, i.account)
			eventuallyTrue(t, time.Minute, "a command with text gets 503", func() bool { return namesKeys(t, client, i.base+"/deposits", text) })
			if !namesKeys(t, client, i.base+"/accounts", `{"owner":"Zoë Quillfeather","currency":"EUR"}`) {
				t.Error("an account was opened without a key")
			}
			i.call("POST", "/deposits", fmt.Sprintf(`{"account_id":%q,"amount":1}`, i.account), 201)
			if ready := readiness(t, client, i.base); !strings.Contains(ready, "subject keys") || !strings.Contains(ready, "their database is unavailable") {
				t.Errorf("readyz: %s", ready)
			}
		}
		g.shut.Store(false)
		g.refuse.Store(false)
		for _, i := range instances {
			text := fmt.Sprintf(`{"account_id":%q,"amount":1,"reference":"quillfeather-salary"}`, i.account)
			eventuallyTrue(t, time.Minute, "a command with text is taken again", func() bool {
				done, err := sendOnce(t, client, i.base+"/deposits", text, fmt.Sprintf("%s-%t", i.account, refuse))
				return err == nil && done.status == http.StatusCreated
			})
			position := i.call("POST", "/accounts", `{"owner":"Zoë Quillfeather","currency":"EUR"}`, 201)["position"]
			if got := get(t, client, fmt.Sprintf("%s/accounts/%s/transactions?min_position=%v", i.base, i.account, position)); !strings.Contains(got, "quillfeather-salary") {
				t.Errorf("the statement has no reference: %s", got)
			}
		}
	}
	if found := holds(dumpOf(t, b.log, "--table=events*", "--data-only"), zoe); len(found) > 0 {
		t.Errorf("the log has %q", found)
	}
}

// namesKeys reports whether a command gets 503 with a problem that says that the keys' database is unavailable.
func namesKeys(t *testing.T, client *http.Client, url, body string) bool {
	t.Helper()
	response, err := client.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode == http.StatusCreated {
		return false
	}
	if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" || !strings.Contains(string(text), "database of the subjects' keys") {
		t.Fatalf("%d %s", response.StatusCode, text)
	}
	return true
}

// readiness returns what GET /readyz says.
func readiness(t *testing.T, client *http.Client, base string) string {
	t.Helper()
	response, err := client.Get(base + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("%d %s %v", response.StatusCode, text, err)
	}
	return string(text)
}

// Package wire is a proxy between an instance and PostgreSQL that knows the protocol: it changes the text of statements,
// delays them, and injects others. The controls use it to break an instance without changing its code.
package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Rule says what to do with the statements whose text contains Match.
type Rule struct {
	Match string
	// Old, if set, is replaced by New in the text, which must contain it.
	Old, New string
	// Hold, if set, is called before the statement is executed, and delays it.
	Hold func()
	// Then, if set, is a statement executed after it on the same connection. The client does not see its result.
	Then string

	hits atomic.Int64
}

// Hits is how many statements the rule has matched.
func (r *Rule) Hits() int64 { return r.hits.Load() }

// Proxy applies rules to the statements that pass through it. The rules are set before the first connection.
type Proxy struct {
	listener net.Listener
	upstream string
	rules    []*Rule

	running sync.WaitGroup
	mu      sync.Mutex
	conns   map[net.Conn]bool
	closed  bool
	stale   []string // rules that no longer fit their statements
}

// New returns a Proxy that listens on a port of loopback. The caller closes it.
func New(ctx context.Context, upstream string, rules ...*Rule) (*Proxy, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: listener, upstream: upstream, rules: rules, conns: make(map[net.Conn]bool)}
	p.running.Go(p.accept)
	return p, nil
}

// Addr returns the address it listens on.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Stale returns an error with the rules that matched a statement but did not find in it what they replace.
func (p *Proxy) Stale() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.stale) == 0 {
		return nil
	}
	return fmt.Errorf("statements that have changed under the control: %s", strings.Join(p.stale, "; "))
}

// Close cuts everything and waits for it.
func (p *Proxy) Close() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.closed = true
	for c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.running.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := new(net.Dialer).DialContext(context.Background(), "tcp", p.upstream)
		if err != nil {
			_ = client.Close()
			continue
		}
		if !p.keep(client, server) {
			return
		}
		l := &link{
			proxy: p, client: client, server: server, texts: make(map[string]string),
			front: pgproto3.NewBackend(client, client), back: pgproto3.NewFrontend(server, server),
		}
		p.running.Go(l.requests)
		p.running.Go(l.answers)
	}
}

func (p *Proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.conns[c] = true
		if p.closed {
			_ = c.Close()
		}
	}
	return !p.closed
}

// rewrite applies the rules to the text of a statement.
func (p *Proxy) rewrite(text string) string {
	for _, r := range p.rules {
		if r.Old == "" || !strings.Contains(text, r.Match) {
			continue
		}
		if !strings.Contains(text, r.Old) {
			p.mu.Lock()
			p.stale = append(p.stale, r.Match)
			p.mu.Unlock()
			continue
		}
		text = strings.Replace(text, r.Old, r.New, 1)
	}
	return text
}

// link is one connection.
type link struct {
	proxy          *Proxy
	client, server net.Conn
	front          *pgproto3.Backend  // to the client
	back           *pgproto3.Frontend // to the server
	texts          map[string]string  // of prepared statements, as the client knows them

	mu   sync.Mutex
	then []string // to execute when the server is next ready
}

func (l *link) close() { _ = l.client.Close(); _ = l.server.Close() }

// requests forwards the client's messages to the server.
func (l *link) requests() {
	defer l.close()
	first, err := l.front.ReceiveStartupMessage()
	if err != nil {
		return
	}
	text, err := first.Encode(nil)
	if err == nil {
		_, err = l.server.Write(text)
	}
	for err == nil {
		var message pgproto3.FrontendMessage
		if message, err = l.front.Receive(); err != nil {
			return
		}
		switch m := message.(type) {
		case *pgproto3.Parse:
			l.texts[m.Name] = m.Query
			m.Query = l.proxy.rewrite(m.Query)
		case *pgproto3.Query:
			l.meet(m.String)
			m.String = l.proxy.rewrite(m.String)
		case *pgproto3.Bind:
			l.meet(l.texts[m.PreparedStatement])
		}
		text, encodeErr := message.Encode(nil)
		if encodeErr != nil {
			return
		}
		_, err = l.server.Write(text)
	}
}

// meet applies the rules to a statement that is about to be executed.
func (l *link) meet(text string) {
	for _, r := range l.proxy.rules {
		if !strings.Contains(text, r.Match) {
			continue
		}
		r.hits.Add(1)
		if r.Hold != nil {
			r.Hold()
		}
		if r.Then != "" {
			l.mu.Lock()
			l.then = append(l.then, r.Then)
			l.mu.Unlock()
		}
	}
}

// next returns the statement to inject now, or "".
func (l *link) next() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.then) == 0 {
		return ""
	}
	text := l.then[0]
	l.then = l.then[1:]
	return text
}

// answers forwards the server's messages to the client.
func (l *link) answers() {
	defer l.close()
	// Without statements to inject, the messages need not be parsed.
	slips := false
	for _, r := range l.proxy.rules {
		slips = slips || r.Then != ""
	}
	if !slips {
		_, _ = io.Copy(l.client, l.server)
		return
	}
	for {
		message, err := l.back.Receive()
		if err != nil {
			return
		}
		ready, isReady := message.(*pgproto3.ReadyForQuery)
		if isReady && ready.TxStatus == 'T' {
			held := *ready
			for text := l.next(); text != ""; text = l.next() {
				if err := l.slip(text); err != nil {
					return
				}
			}
			message = &held
		}
		text, err := message.Encode(nil)
		if err == nil {
			_, err = l.client.Write(text)
		}
		if err != nil {
			return
		}
	}
}

// slip executes a statement and hides its result from the client.
func (l *link) slip(text string) error {
	message, err := (&pgproto3.Query{String: text}).Encode(nil)
	if err == nil {
		_, err = l.server.Write(message)
	}
	for err == nil {
		var answer pgproto3.BackendMessage
		if answer, err = l.back.Receive(); err != nil {
			return err
		}
		switch answer.(type) {
		case *pgproto3.ErrorResponse:
			return errors.New("an injected statement failed")
		case *pgproto3.ReadyForQuery:
			return nil
		}
	}
	return err
}

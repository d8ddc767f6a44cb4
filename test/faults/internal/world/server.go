package world

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Server is an instance of the service, with a network to its database and one to its clients.
type Server struct {
	// Name is the instance's application_name.
	Name string
	// Database and Clients are the two networks.
	Database, Clients *Network

	binary, database, log string
	addr                  string
	client                http.Client

	mu      sync.Mutex
	query   string // more parameters of its database URL
	process *process
}

// newServer returns an instance that is not started yet. via is the address that its database connections go to.
func newServer(ctx context.Context, binary, dir, name, database, via string) (*Server, error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	s := &Server{
		Name: name, binary: binary, database: database, log: filepath.Join(dir, name+".log"),
		addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), client: http.Client{Timeout: 5 * time.Second},
	}
	if s.Database, err = NewNetwork(name+" database", via); err != nil {
		return nil, err
	}
	s.Clients, err = NewNetwork(name+" clients", s.addr)
	return s, err
}

// Base returns the URL for clients.
func (s *Server) Base() string { return "http://" + s.Clients.Addr() }

// Direct returns the URL that bypasses the network.
func (s *Server) Direct() string { return "http://" + s.addr }

// Start starts the process, unless it runs. It does not wait until it is ready.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil && !s.process.hasEnded() {
		return nil
	}
	attr := childAttr()
	url := fmt.Sprintf("postgres://passbook@%s/%s?sslmode=disable&application_name=%s%s", s.Database.Addr(), s.database, s.Name, s.query)
	var err error
	s.process, err = start(s.log, s.binary, []string{
		"DATABASE_URL=" + url, "PASSBOOK_ADDR=" + s.addr, "PASSBOOK_LOG_LEVEL=info", "PASSBOOK_LOG_FORMAT=json", "HOME=/nonexistent",
	}, &attr)
	return err
}

// Parameters sets additional parameters of the database URL, such as "&a=b", for the next start.
func (s *Server) Parameters(query string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.query = query
}

// Signal sends a signal; the process may have ended.
func (s *Server) Signal(signal syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process.signal(signal)
}

// Stop ends the process and waits for it.
func (s *Server) Stop(signal syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil || s.process.hasEnded() {
		return nil
	}
	return s.process.stop(signal)
}

// Ready waits until the instance is ready, or ctx ends.
func (s *Server) Ready(ctx context.Context) error {
	for {
		if status, _ := s.get(ctx, "/readyz"); status == http.StatusOK {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w: %s", s.Name, ctx.Err(), tail(s.log))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *Server) get(ctx context.Context, path string) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Direct()+path, http.NoBody)
	if err != nil {
		return 0, err
	}
	response, err := s.client.Do(request)
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}

// Close stops the instance and its networks.
func (s *Server) Close() {
	_ = s.Signal(syscall.SIGCONT)
	_ = s.Stop(syscall.SIGKILL)
	s.Database.Close()
	s.Clients.Close()
	s.client.CloseIdleConnections()
}

package postgres

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// TestConnectionsHaveLimits reads a connection's limits from the kernel.
func TestConnectionsHaveLimits(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	conn, err := dialer().DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for option, want := range map[int]int{
		unix.TCP_USER_TIMEOUT: int(unackedTimeout.Milliseconds()), unix.TCP_KEEPIDLE: int(keepAliveAfter.Seconds()),
		unix.TCP_KEEPINTVL: int(keepAliveEvery.Seconds()), unix.TCP_KEEPCNT: keepAliveCount,
	} {
		var got int
		var failed error
		if err := raw.Control(func(fd uintptr) { got, failed = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, option) }); err != nil || failed != nil {
			t.Fatal(err, failed)
		}
		if got != want {
			t.Errorf("option %d is %d, want %d", option, got, want)
		}
	}
}

package postgres

import (
	"net"
	"time"
)

// How long a connection may be silent: a machine that has failed sends nothing, and without these limits a statement sent
// to it would wait until the kernel gives up, some 15 minutes later.
const (
	keepAliveAfter = 10 * time.Second
	keepAliveEvery = 3 * time.Second
	keepAliveCount = 3
	// unackedTimeout limits how long sent data may stay unacknowledged, where the system has such a limit.
	unackedTimeout = 15 * time.Second
)

// dialer returns pgx's default dialer with these limits.
func dialer() *net.Dialer {
	return &net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepAliveAfter, Interval: keepAliveEvery, Count: keepAliveCount},
		Control:         limitUnacked,
	}
}

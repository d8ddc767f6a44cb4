package app

import (
	"strings"
	"testing"

	"passbook/internal/follow"
)

func TestFollowerCheck(t *testing.T) {
	t.Parallel()
	const down = "NATS at nats://a:4222 is unavailable: connection refused; check the URL, and that the servers run"
	for name, test := range map[string]struct {
		status follow.Status
		ok     bool
		detail []string
	}{
		"behind":           {follow.Status{State: follow.Following, Position: 3, End: 9}, false, []string{"has not caught up yet", "3 of 9"}},
		"following":        {follow.Status{State: follow.Following, Position: 9, End: 9, CaughtUp: true}, true, []string{"following at position 9 of 9"}},
		"never connected":  {follow.Status{State: follow.Unavailable, Error: down}, false, []string{"has not caught up yet", down}},
		"lost connection":  {follow.Status{State: follow.Unavailable, Position: 9, End: 9, CaughtUp: true, Error: down}, true, []string{"unavailable", down}},
		"another history":  {follow.Status{State: follow.Halted, CaughtUp: true, Error: "an event differs"}, false, []string{"has halted", "log says what to do"}},
		"a recovered link": {follow.Status{State: follow.Following, CaughtUp: true}, true, []string{"following"}},
	} {
		check := followerCheck(test.status)
		if check.OK != test.ok {
			t.Errorf("%s: %+v", name, check)
		}
		for _, part := range test.detail {
			if !strings.Contains(check.Detail, part) {
				t.Errorf("%s: %q does not say %q", name, check.Detail, part)
			}
		}
	}
}

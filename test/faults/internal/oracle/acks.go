package oracle

// Fate is what a client knows of its command.
type Fate uint8

// The fates of a command.
const (
	// Unknown means that the client got no final response.
	Unknown Fate = iota
	// Applied means that the client got a receipt.
	Applied
	// Refused means that the rules refused it, which is final.
	Refused
)

// Leg is one event that a receipt names.
type Leg struct {
	Account  string `json:"account_id"`
	EventID  string `json:"event_id"`
	Position int64  `json:"position"`
	Version  int64  `json:"version"`
}

// Command is a command with its outcome for the client. Its key is the reference, reason, owner or metadata in its events.
type Command struct {
	Key  string
	Fate Fate
	// Code is the code of the refusal.
	Code string
	// Legs are the events of an Applied command; or there is one, whose id is that of the first event, position that of the last,
	// and version that of the account after all.
	Legs []Leg
	// Events is how many events the command makes.
	Events int
}

// checkCommands checks that every acknowledged command is in the log once, as its receipt says; that no refused command is
// in it; and that no other command is in it twice. A command with an unknown outcome may be in the log or not.
func (c *checker) checkCommands(commands []Command, byMark map[string][]*event) {
	for i := range commands {
		cmd := &commands[i]
		got := byMark[cmd.Key]
		switch cmd.Fate {
		case Refused:
			if len(got) > 0 {
				c.violated("I2", "command %s was refused with %s, but is in the log at position %d", cmd.Key, cmd.Code, got[0].position)
			}
		case Unknown:
			if len(got) > 0 && len(got) != cmd.Events {
				c.violated("I2", "command %s, not acknowledged, has %d events, want %d", cmd.Key, len(got), cmd.Events)
			}
		case Applied:
			if len(got) != cmd.Events {
				c.violated("I2", "command %s, acknowledged, has %d events, want %d", cmd.Key, len(got), cmd.Events)
				continue
			}
			want := legs(got)
			if len(cmd.Legs) == 1 {
				want = []Leg{summary(got)}
			}
			for j, leg := range cmd.Legs {
				if leg != want[j] {
					c.violated("I2", "the receipt of command %s says %+v; the log has %+v", cmd.Key, leg, want[j])
				}
			}
		}
	}
}

func legs(events []*event) []Leg {
	all := make([]Leg, len(events))
	for i, e := range events {
		all[i] = Leg{Account: e.stream, EventID: e.id, Position: e.position, Version: e.version}
	}
	return all
}

// summary returns what a receipt says that names several events together.
func summary(events []*event) Leg {
	one := Leg{Account: events[0].stream, EventID: events[0].id, Position: events[len(events)-1].position}
	for _, e := range events {
		if e.stream == one.Account {
			one.Version = e.version
		}
	}
	return one
}

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// usage is processor time by who used it, in ticks of 10 ms.
type usage map[string]int64

var users = []string{"primary's instances", "its PostgreSQL", "NATS servers", "followers and their PostgreSQLs", "load and measurement"}

// usage returns what all processes have used so far.
func (w *world) usage() usage {
	self := os.Getpid()
	groups := map[int]string{self: users[4]}
	for _, p := range w.primaries {
		groups[p.child.PID()] = users[0]
	}
	for _, node := range w.nats {
		groups[node.PID()] = users[2]
	}
	for _, p := range w.followers {
		groups[p.child.PID()] = users[3]
	}
	parents, ticks := make(map[int]int), make(map[int]int64)
	paths, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
		// The fields after the name of the program, see proc(5): state, parent, …, user and system time.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		parents[pid], _ = strconv.Atoi(fields[1])
		user, _ := strconv.ParseInt(fields[11], 10, 64)
		system, _ := strconv.ParseInt(fields[12], 10, 64)
		ticks[pid] = user + system
	}
	all := make(usage)
	for pid, n := range ticks {
		// The nearest ancestor with a name; what else this program has started is the primary's PostgreSQL.
		for at := pid; at > 1; at = parents[at] {
			group, ok := groups[at]
			if !ok && parents[at] == self {
				group, ok = users[1], true
			}
			if ok {
				all[group] += n
				break
			}
		}
	}
	return all
}

func (u usage) minus(before usage) usage {
	used := make(usage)
	for name, n := range u {
		used[name] = n - before[name]
	}
	return used
}

// per returns the processors in use over a time.
func (u usage) per(seconds float64) string {
	var parts []string
	for _, name := range users {
		parts = append(parts, fmt.Sprintf("%s %.2f", name, float64(u[name])/100/seconds))
	}
	return strings.Join(parts, ", ")
}

// link is the bytes that went through a link.
type link struct{ in, out int64 }

// linkBytes returns what has gone through each link of this program's network namespace so far, seen from its end.
func linkBytes() map[string]link {
	text, _ := os.ReadFile("/proc/net/dev")
	all := make(map[string]link)
	for line := range strings.Lines(string(text)) {
		name, counts, ok := strings.Cut(line, ":")
		fields := strings.Fields(counts)
		if !ok || len(fields) < 9 {
			continue
		}
		in, _ := strconv.ParseInt(fields[0], 10, 64)
		out, _ := strconv.ParseInt(fields[8], 10, 64)
		all[strings.TrimSpace(name)] = link{in, out}
	}
	return all
}

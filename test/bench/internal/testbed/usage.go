package testbed

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// clockTicks is the unit of CPU times in /proc: a hundredth of a second on every Linux.
const clockTicks = 100

// CPU is seconds of processor time used so far by servers and by all of PostgreSQL; 0 where there is no /proc.
type CPU struct{ Server, Postgres float64 }

// CPU reads the times of the processes, added up, and of PostgreSQL.
func (s *Testbed) CPU(servers ...*Process) CPU {
	c := CPU{Postgres: s.postgresCPU()}
	for _, p := range servers {
		c.Server += cpuOf(p.PID)
	}
	return c
}

// postgresCPU is the time of the postmaster, its children, and the children it has already seen end.
func (s *Testbed) postgresCPU() float64 {
	postmaster := s.postmaster()
	if postmaster == 0 {
		return 0
	}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0
	}
	var ticks float64
	for _, path := range stats {
		fields := statFields(path)
		if fields == nil {
			continue
		}
		if path == "/proc/"+strconv.Itoa(postmaster)+"/stat" {
			ticks += number(fields[utime]) + number(fields[stime]) + number(fields[cutime]) + number(fields[cstime])
		} else if number(fields[ppid]) == float64(postmaster) {
			ticks += number(fields[utime]) + number(fields[stime])
		}
	}
	return ticks / clockTicks
}

// postmaster is the process id of PostgreSQL's first process.
func (s *Testbed) postmaster() int {
	files, err := filepath.Glob(s.path("postgres") + "/postgres-*/postmaster.pid")
	if err != nil || len(files) != 1 {
		return 0
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		return 0
	}
	line, _, _ := bytes.Cut(text, []byte{'\n'})
	return int(number(string(line)))
}

func cpuOf(pid int) float64 {
	fields := statFields("/proc/" + strconv.Itoa(pid) + "/stat")
	if fields == nil {
		return 0
	}
	return (number(fields[utime]) + number(fields[stime])) / clockTicks
}

// Fields of /proc/PID/stat after the name of the program, see proc(5).
const (
	ppid   = 1
	utime  = 11
	stime  = 12
	cutime = 13
	cstime = 14
)

func statFields(path string) []string {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil // it has ended, or there is no /proc
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) <= cstime {
		return nil
	}
	return fields
}

func number(text string) float64 {
	n, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil {
		return 0
	}
	return n
}

// PeakMiB is the most memory the process has had resident so far, in MiB; 0 where there is no /proc.
func (p *Process) PeakMiB() float64 {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(p.PID) + "/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kib, _, _ := strings.Cut(rest, "kB")
	return number(kib) / 1024
}

// ResidentMiB is the memory the process has resident at the moment, in MiB; 0 where there is no /proc.
func (p *Process) ResidentMiB() float64 {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(p.PID) + "/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kib, _, _ := strings.Cut(rest, "kB")
	return number(kib) / 1024
}

// OpenFiles is how many files and sockets the process has open; 0 where there is no /proc.
func (p *Process) OpenFiles() float64 {
	files, err := os.ReadDir("/proc/" + strconv.Itoa(p.PID) + "/fd")
	if err != nil {
		return 0
	}
	return float64(len(files))
}

// Metric reads a metric without labels from /metrics.
func (p *Process) Metric(ctx context.Context, name string) (float64, error) {
	status, text, err := p.do(ctx, http.MethodGet, "/metrics", "")
	if err != nil || status != http.StatusOK {
		return 0, fmt.Errorf("GET /metrics: status %d: %w", status, err)
	}
	_, rest, found := strings.Cut("\n"+string(text), "\n"+name+" ")
	if !found {
		return 0, fmt.Errorf("there is no metric %s", name)
	}
	value, _, _ := strings.Cut(rest, "\n")
	return strconv.ParseFloat(value, 64)
}

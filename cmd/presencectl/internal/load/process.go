package load

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Process is what a process used while the load was on.
type Process struct {
	PID     int     `json:"pid"`
	RSSMost uint64  `json:"rssMost"` // bytes
	RSS     uint64  `json:"rss"`     // at the end
	CPU     float64 `json:"cpuSeconds"`
	Cores   float64 `json:"cores"` // of which it used so much on average
}

func (p *Process) String() string {
	if p == nil {
		return "memory and CPU not known"
	}
	return fmt.Sprintf("process %d, %s of memory at most, %s at the end; %.2f s of CPU, %.2f cores", p.PID, size(p.RSSMost), size(p.RSS), p.CPU, p.Cores)
}

// meter reads what a process uses, where /proc tells.
type meter struct {
	pid         int
	began, last time.Time
	first, cpu  float64 // seconds
	rss, most   uint64
}

// ticks is how many clock ticks a second has in /proc, on every Linux.
const ticks = 100

// read looks again. Once the process has gone the meter stays where it was.
func (m *meter) read() {
	if m.pid == 0 {
		return
	}
	rss, cpu, err := usage(m.pid)
	if err != nil {
		return
	}
	m.last = time.Now()
	if m.began.IsZero() {
		m.began, m.first = m.last, cpu
	}
	m.rss, m.cpu, m.most = rss, cpu, max(m.most, rss)
}

func (m *meter) process() *Process {
	if m.began.IsZero() {
		return nil
	}
	p := &Process{PID: m.pid, RSSMost: m.most, RSS: m.rss, CPU: m.cpu - m.first}
	if d := m.last.Sub(m.began).Seconds(); d > 0 {
		p.Cores = p.CPU / d
	}
	return p
}

// usage is the memory and the CPU time of a process.
func usage(pid int) (rss uint64, cpu float64, err error) {
	folder := "/proc/" + strconv.Itoa(pid)
	memory, err := os.ReadFile(folder + "/statm")
	if err != nil {
		return 0, 0, err
	}
	stat, err := os.ReadFile(folder + "/stat")
	if err != nil {
		return 0, 0, err
	}
	pages := strings.Fields(string(memory))
	// The second field is the name, in parentheses, and may contain anything.
	_, rest, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " ")
	fields := strings.Fields(rest)
	if len(pages) < 2 || len(fields) < 13 {
		return 0, 0, fmt.Errorf("%s cannot be understood", folder)
	}
	n, err := strconv.ParseUint(pages[1], 10, 64)
	if err != nil {
		return 0, 0, err
	}
	for _, f := range fields[11:13] {
		t, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return 0, 0, err
		}
		cpu += float64(t) / ticks
	}
	if n == 0 {
		return 0, 0, fmt.Errorf("process %d has ended", pid)
	}
	return n * uint64(os.Getpagesize()), cpu, nil
}

package fleet

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Process is the CPU and memory that a process used between two readings of a
// [Meter].
type Process struct {
	PID     int     `json:"pid"`
	RSSMost uint64  `json:"rssMost"` // bytes
	RSS     uint64  `json:"rss"`     // at the end
	CPU     float64 `json:"cpuSeconds"`
	Cores   float64 `json:"cores"` // in use on average
}

func (p *Process) String() string {
	if p == nil {
		return "memory and CPU not known"
	}
	return fmt.Sprintf("process %d, %s of memory at most, %s at the end; %.2f s of CPU, %.2f cores", p.PID, Bytes(p.RSSMost), Bytes(p.RSS), p.CPU, p.Cores)
}

// Meter reads the CPU and memory of a process, on a system with /proc. A meter
// without a PID reads nothing.
type Meter struct {
	PID         int
	began, last time.Time
	first, cpu  float64 // seconds
	rss, most   uint64
}

// Read reads again. After the process has ended the meter keeps its last reading.
func (m *Meter) Read() {
	if m.PID == 0 {
		return
	}
	rss, cpu, err := Usage(m.PID)
	if err != nil {
		return
	}
	m.last = time.Now()
	if m.began.IsZero() {
		m.began, m.first = m.last, cpu
	}
	m.rss, m.cpu, m.most = rss, cpu, max(m.most, rss)
}

// RSS returns the resident bytes of the last reading, or 0.
func (m *Meter) RSS() uint64 { return m.rss }

// Process returns the use since the first reading, or nil without a first reading.
func (m *Meter) Process() *Process {
	if m.began.IsZero() {
		return nil
	}
	p := &Process{PID: m.PID, RSSMost: m.most, RSS: m.rss, CPU: m.cpu - m.first}
	if d := m.last.Sub(m.began).Seconds(); d > 0 {
		p.Cores = p.CPU / d
	}
	return p
}

// ticks is the number of clock ticks a second in /proc, on every Linux.
const ticks = 100

// Usage returns the resident bytes of a process and its CPU time in seconds.
func Usage(pid int) (rss uint64, cpu float64, err error) {
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
		return 0, 0, fmt.Errorf("%s has an unknown format", folder)
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

// Bytes returns a number of bytes as text.
func Bytes(n uint64) string {
	switch {
	case n >= 10<<20:
		return fmt.Sprintf("%d MB", n>>20)
	case n >= 10<<10:
		return fmt.Sprintf("%d KB", n>>10)
	default:
		return fmt.Sprintf("%d B", n)
	}
}

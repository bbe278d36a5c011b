package load

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"unicode"
)

// tally counts by names. The server may invent names: those beyond maxNames
// share one count. It is safe for concurrent use.
type tally struct {
	mu     sync.Mutex
	counts map[string]uint64
}

const (
	maxNames   = 32
	otherNames = "others"
)

// plain makes a server's text short, and safe for a terminal.
func plain(text string, most int) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, text[:min(len(text), most)])
}

func (t *tally) add(name string) {
	name = plain(name, 64)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = make(map[string]uint64)
	}
	if _, known := t.counts[name]; !known && len(t.counts) >= maxNames {
		name = otherNames
	}
	t.counts[name]++
}

func (t *tally) all() map[string]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.counts)
}

// listed writes counts, the most frequent first.
func listed(counts map[string]uint64) string {
	if len(counts) == 0 {
		return "none"
	}
	names := slices.Collect(maps.Keys(counts))
	slices.SortFunc(names, func(a, b string) int {
		if counts[a] != counts[b] {
			return int(int64(counts[b]) - int64(counts[a]))
		}
		return strings.Compare(a, b)
	})
	parts := make([]string, len(names))
	for i, name := range names {
		parts[i] = fmt.Sprintf("%s %d", name, counts[name])
	}
	return strings.Join(parts, ", ")
}

// faults are the faults of the server: for each kind the count and the text of
// the first.
type faults struct {
	mu    sync.Mutex
	list  []Fault
	total uint64
}

// Fault is one kind of fault of the server.
type Fault struct {
	Kind  string `json:"kind"`
	Count uint64 `json:"count"`
	First string `json:"first"` // the text of the first
}

func (f *faults) add(kind, format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.total++
	kind = plain(kind, 64)
	i := slices.IndexFunc(f.list, func(k Fault) bool { return k.Kind == kind })
	if i < 0 {
		if len(f.list) >= maxNames {
			return // only the total counts it
		}
		i = len(f.list)
		f.list = append(f.list, Fault{Kind: kind, First: plain(fmt.Sprintf(format, args...), 400)})
	}
	f.list[i].Count++
}

func (f *faults) all() ([]Fault, uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.list), f.total
}

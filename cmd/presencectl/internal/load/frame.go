package load

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"time"
)

// frame is a snapshot or diff of a channel. It is decoded once for all watchers
// that receive it.
type frame struct {
	snapshot bool
	lagged   bool
	channel  string
	epoch    string
	seq      uint64
	cells    []cell
	sent     time.Time // when the claim that the frame shows was sent; zero without one
}

// cell is a row of a list: the number of the subject, and a hash of its view; 0
// removes the row. Number 0 is the group.
type cell struct{ number, sum uint32 }

// view is a row as the server sends it.
type view struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Text   string `json:"text"`
}

// frames decodes frames, so that thousands of watchers of a channel share the
// work. It is safe for concurrent use.
type frames struct {
	seed maphash.Seed

	mu      sync.Mutex
	known   map[uint64]*frame // by a hash of the bytes
	ring    [1024]uint64      // the keys of known, the oldest at next
	next    int
	numbers map[string]uint32 // of subjects
	names   []string          // by number
	people  map[string]*person
	seen    uint64 // claims that a watcher has received
}

// maxSubjects is the limit of subjects that a server may name.
const maxSubjects = 1 << 20

func newFrames(people map[string]*person) *frames {
	return &frames{
		seed: maphash.MakeSeed(), known: make(map[uint64]*frame), people: people,
		numbers: make(map[string]uint32), names: []string{"the group"},
	}
}

// isFrame reports whether a message is a frame of a channel. It looks only at
// the first bytes.
func isFrame(payload []byte) bool {
	return bytes.HasPrefix(payload, []byte(`{"type":"diff"`)) || bytes.HasPrefix(payload, []byte(`{"type":"snapshot"`))
}

// take decodes a frame, or returns an earlier one with the same bytes.
func (fs *frames) take(payload []byte) (*frame, error) {
	key := maphash.Bytes(fs.seed, payload)
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f := fs.known[key]; f != nil {
		return f, nil
	}
	f, err := fs.decode(payload)
	if err != nil {
		return nil, err
	}
	delete(fs.known, fs.ring[fs.next])
	fs.ring[fs.next] = key
	fs.next = (fs.next + 1) % len(fs.ring)
	fs.known[key] = f
	return f, nil
}

// encoded is a frame in the JSON of the server.
type encoded struct {
	Type    string            `json:"type"`
	Channel view              `json:"channel"`
	Epoch   string            `json:"epoch"`
	Seq     uint64            `json:"seq"`
	Lagged  bool              `json:"lagged"`
	Group   json.RawMessage   `json:"group"`
	Members []json.RawMessage `json:"members"`
	Changes []struct {
		Op      string          `json:"op"`
		Subject view            `json:"subject"`
		View    json.RawMessage `json:"view"`
	} `json:"changes"`
}

func (fs *frames) decode(payload []byte) (*frame, error) {
	var m encoded
	if err := json.Unmarshal(payload, &m); err != nil {
		return nil, err
	}
	if m.Epoch == "" {
		return nil, fmt.Errorf("a %s of channel %q has no epoch", m.Type, m.Channel.ID)
	}
	f := &frame{snapshot: m.Type == "snapshot", lagged: m.Lagged, channel: m.Channel.ID, epoch: m.Epoch, seq: m.Seq}
	group, err := fs.sum(m.Group)
	if err != nil {
		return nil, err
	}
	f.cells = append(make([]cell, 0, 1+len(m.Members)+len(m.Changes)), cell{0, group})
	row := func(id string, data json.RawMessage) error {
		number, err := fs.number(id)
		if err != nil {
			return err
		}
		sum, err := fs.sum(data)
		f.cells = append(f.cells, cell{number, sum})
		return err
	}
	for _, data := range m.Members {
		var v view
		if err := json.Unmarshal(data, &v); err != nil {
			return nil, err
		}
		if err := row(v.ID, data); err != nil {
			return nil, err
		}
	}
	for _, c := range m.Changes {
		switch c.Op {
		case "joined", "updated", "left":
		default:
			return nil, fmt.Errorf("a change has the op %q; known are joined, updated and left", c.Op)
		}
		if err := row(c.Subject.ID, c.View); err != nil {
			return nil, err
		}
		var v view
		if len(c.View) > 0 {
			if err := json.Unmarshal(c.View, &v); err != nil {
				return nil, err
			}
		}
		if p := fs.people[c.Subject.ID]; p != nil {
			sent, first := p.shows(v, f.epoch)
			if !sent.IsZero() {
				f.sent = sent
			}
			if first {
				fs.seen++
			}
		}
	}
	return f, nil
}

func (fs *frames) number(id string) (uint32, error) {
	if n, known := fs.numbers[id]; known {
		return n, nil
	}
	if id == "" {
		return 0, fmt.Errorf("a row has no id")
	}
	if len(fs.names) >= maxSubjects {
		return 0, fmt.Errorf("the server speaks of more than %d subjects", maxSubjects)
	}
	n := uint32(len(fs.names))
	id = strings.Clone(id)
	fs.names = append(fs.names, id)
	fs.numbers[id] = n
	return n, nil
}

// sum is a hash of a JSON value, equal for any order of its fields. It is 0
// only without a value.
func (fs *frames) sum(data json.RawMessage) (uint32, error) {
	if len(data) == 0 {
		return 0, nil
	}
	var value any
	if err := json.Unmarshal(data, &value); err != nil || value == nil {
		return 0, err
	}
	data, err := json.Marshal(value) // sorts the fields
	return max(uint32(maphash.Bytes(fs.seed, data)), 1), err
}

// name is the subject of a number.
func (fs *frames) name(number int) string {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.names[number]
}

// list is a watcher's own list of a channel, built only by the rules of the
// protocol. It takes four bytes a subject.
type list struct {
	epoch string // empty before the first snapshot
	seq   uint64
	rows  []uint32 // sums, by number
}

// apply applies a frame. An error reports that the protocol forbids it here;
// the frame is applied nevertheless.
func (l *list) apply(f *frame) (err error) {
	switch {
	case f.snapshot:
		clear(l.rows)
	case l.epoch == "":
		err = fmt.Errorf("diff %d of epoch %s came before a snapshot", f.seq, f.epoch)
	case f.epoch != l.epoch:
		err = fmt.Errorf("diff %d of epoch %s came after frame %d of epoch %s", f.seq, f.epoch, l.seq, l.epoch)
	case f.seq != l.seq+1:
		err = fmt.Errorf("diff %d came after frame %d of epoch %s", f.seq, l.seq, l.epoch)
	}
	l.epoch, l.seq = f.epoch, f.seq
	for _, c := range f.cells {
		if n := int(c.number) + 1 - len(l.rows); n > 0 {
			l.rows = append(l.rows, make([]uint32, n)...)
		}
		l.rows[c.number] = c.sum
	}
	return err
}

// differs returns the numbers of the rows that differ between two lists.
func (l *list) differs(from *list) (numbers []int) {
	at := func(rows []uint32, i int) uint32 {
		if i < len(rows) {
			return rows[i]
		}
		return 0
	}
	for i := range max(len(l.rows), len(from.rows)) {
		if at(l.rows, i) != at(from.rows, i) {
			numbers = append(numbers, i)
		}
	}
	return numbers
}

// person is a subject whose clients send claims, over one or several
// connections. It sends one claim at a time, so that a watcher's change belongs
// to a known claim.
type person struct {
	id string

	mu     sync.Mutex
	status string // of the last claim
	text   string
	sent   time.Time
	seen   []string // the epochs in which watchers have received it
}

const (
	// between is the minimum time between two claims of one person.
	between = time.Second
	// maxEpochs is the number of streams in which a claim is timed: one for each
	// audience.
	maxEpochs = 8
)

// claims starts a claim, unless the last one is less than between ago.
func (p *person) claims(now time.Time, status, text string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.sent) < between {
		return false
	}
	p.status, p.text, p.sent, p.seen = status, text, now, nil
	return true
}

// shows returns the time when the claim in a view was sent, if the view is the
// first with it in its epoch, and else zero. It also reports whether the view
// is the first in any epoch.
func (p *person) shows(v view, epoch string) (sent time.Time, first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	// Some audiences do not receive the text.
	if p.sent.IsZero() || v.Status != p.status || v.Text != "" && v.Text != p.text || len(p.seen) >= maxEpochs || slices.Contains(p.seen, epoch) {
		return time.Time{}, false
	}
	p.seen = append(p.seen, epoch)
	return p.sent, len(p.seen) == 1
}

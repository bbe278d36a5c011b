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

// frame is a snapshot or diff of a channel, taken apart once however many
// watchers are sent it.
type frame struct {
	snapshot bool
	lagged   bool
	channel  string
	epoch    string
	seq      uint64
	cells    []cell
	sent     time.Time // when the claim was sent that the frame is about; zero if there is none
}

// cell is a row of a list: the number of the subject, and a sum over what is
// shown of it; 0 takes the row away. Number 0 is the group.
type cell struct{ number, sum uint32 }

// view is a row as the server sends it.
type view struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Text   string `json:"text"`
}

// frames takes frames apart. What it remembers lets thousands of watchers of a
// channel share the work. It is safe for concurrent use.
type frames struct {
	seed maphash.Seed

	mu      sync.Mutex
	known   map[uint64]*frame // by what they say
	ring    [1024]uint64      // the keys of those, the oldest at next
	next    int
	numbers map[string]uint32 // of subjects
	names   []string          // by number
	people  map[string]*person
	seen    uint64 // claims that some watcher was shown
}

// maxSubjects bounds how many subjects a server may speak of.
const maxSubjects = 1 << 20

func newFrames(people map[string]*person) *frames {
	return &frames{
		seed: maphash.MakeSeed(), known: make(map[uint64]*frame), people: people,
		numbers: make(map[string]uint32), names: []string{"the group"},
	}
}

// isFrame reports whether a message is a frame of a channel, if it can be told
// without decoding it.
func isFrame(payload []byte) bool {
	return bytes.HasPrefix(payload, []byte(`{"type":"diff"`)) || bytes.HasPrefix(payload, []byte(`{"type":"snapshot"`))
}

// take takes a frame apart, or finds one that says the same.
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

// encoded is a frame as the server sends it.
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

// sum is the same for the same JSON value, in whatever order its fields are, and
// 0 for none only.
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

// list is a watcher's own list of a channel, by the rules of the protocol and no
// others. It takes four bytes a subject.
type list struct {
	epoch string // empty before the first snapshot
	seq   uint64
	rows  []uint32 // sums, by number
}

// apply takes a frame in. An error says that it may not come here; it is taken
// in all the same.
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

// differs returns the numbers of the rows in which two lists differ.
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

// person is a subject on whose behalf claims are sent, over one or several
// connections. It has one claim under way at a time, so that what watchers see
// can be told to be of it.
type person struct {
	id string

	mu     sync.Mutex
	status string // claimed last
	text   string
	sent   time.Time
	seen   []string // the epochs in which it has been seen
}

const (
	// between is how far apart the claims of one person are at least.
	between = time.Second
	// maxEpochs is in how many streams a claim is looked for: one for each
	// audience.
	maxEpochs = 8
)

// claims begins a claim, unless the one before was just now.
func (p *person) claims(now time.Time, status, text string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.sent) < between {
		return false
	}
	p.status, p.text, p.sent, p.seen = status, text, now, nil
	return true
}

// shows returns when the claim was sent that a view is the first to show in an
// epoch, or zero if it shows none, and whether it is the first in any.
func (p *person) shows(v view, epoch string) (sent time.Time, first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	// Not every audience is shown the text.
	if p.sent.IsZero() || v.Status != p.status || v.Text != "" && v.Text != p.text || len(p.seen) >= maxEpochs || slices.Contains(p.seen, epoch) {
		return time.Time{}, false
	}
	p.seen = append(p.seen, epoch)
	return p.sent, len(p.seen) == 1
}

package phoenix

import (
	"encoding/json"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/presence-go/presence"
)

// roomKey names what all who share it are told alike.
type roomKey struct {
	topic    string
	channel  presence.Channel
	audience presence.Audience
}

// room turns the frames of one stream into messages, once for all sockets that
// receive it. Every socket brings the frames of its own watch, so that it is
// told no more than that; the first to bring one has it turned.
type room struct {
	key   roomKey
	h     *Handler
	users int // under the handler's lock

	mu      sync.Mutex
	epoch   string
	seq     uint64
	group   presence.Group
	members map[string][]meta
	state   []byte     // the members as of seq, once somebody asked
	log     [][][]byte // the messages of the last frames, the newest last
	size    int        // bytes in log
}

const (
	logFrames = 256     // that a room keeps for those who lag
	logBytes  = 1 << 20 // at most, if there are two
)

// meta is one entry of a member: a device, where the audience is shown how many
// there are.
type meta struct {
	ref  string
	body []byte // an object without its opening brace and phx_ref
}

// enter returns the room of a key, which leave gives back.
func (h *Handler) enter(key roomKey) *room {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.rooms[key]
	if r == nil {
		r = &room{key: key, h: h, members: make(map[string][]meta)}
		h.rooms[key] = r
	}
	r.users++
	return r
}

func (h *Handler) leave(r *room) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.users--; r.users == 0 {
		delete(h.rooms, r.key)
	}
}

// turn returns the messages that tell what a frame says, or false if the room
// no longer knows what was before it: then a snapshot has to.
func (r *room) turn(f *presence.Frame, joinRef *string) (messages [][]byte, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.Kind == presence.FrameSnapshot {
		state := r.snapshot(f)
		messages = append(messages, encode(joinRef, nil, r.key.topic, eventState, json.RawMessage(state)))
		return append(messages, r.grouped(f)), true
	}
	switch {
	case f.Epoch != r.epoch:
		return nil, false
	case f.Seq == r.seq+1:
		rows := make([]row, len(f.Changes))
		for i := range f.Changes {
			rows[i] = row{Key(f.Changes[i].Subject), r.h.metas(f.Changes[i].View)}
		}
		messages = r.diff(f, rows)
		r.keep(messages)
		return messages, true
	}
	back := r.seq - f.Seq
	if f.Seq > r.seq || back >= uint64(len(r.log)) {
		return nil, false
	}
	return r.log[uint64(len(r.log))-1-back], true
}

// keep logs the messages of the newest frame.
func (r *room) keep(messages [][]byte) {
	length := func(list [][]byte) (n int) {
		for _, m := range list {
			n += len(m)
		}
		return n
	}
	r.log = append(r.log, messages)
	r.size += length(messages)
	for len(r.log) > logFrames || r.size > logBytes && len(r.log) > 1 {
		r.size -= length(r.log[0])
		r.log[0] = nil
		r.log = r.log[1:]
	}
}

// snapshot returns the members as a snapshot has them. If it is news, the room
// goes on from there: those who are behind are told the difference at once, when
// their own frames have come that far.
func (r *room) snapshot(f *presence.Frame) []byte {
	present := f.Epoch == r.epoch && f.Seq == r.seq
	if present && r.state != nil {
		return r.state
	}
	members := make(map[string][]meta, len(f.Members))
	rows := make([]row, 0, len(f.Members))
	state := []byte{'{'}
	for i := range f.Members {
		key := Key(f.Members[i].Subject)
		if list := r.h.metas(&f.Members[i]); len(list) > 0 {
			members[key], rows = list, append(rows, row{key, list})
			state = appendMember(state, key, list, nil)
		}
	}
	state = append(state, '}')
	switch {
	case present:
		r.state = state
	case f.Epoch == r.epoch && f.Seq < r.seq:
	case f.Epoch == r.epoch && f.Seq-r.seq < logFrames:
		for _, key := range slices.Sorted(maps.Keys(r.members)) {
			if members[key] == nil {
				rows = append(rows, row{key, nil})
			}
		}
		for r.seq < f.Seq-1 {
			r.seq++
			r.keep(nil)
		}
		r.keep(r.diff(f, rows))
		r.state = state
	default:
		r.epoch, r.seq, r.group = f.Epoch, f.Seq, f.Group
		r.members, r.state, r.log, r.size = members, state, nil, 0
	}
	return state
}

// row is what a member becomes.
type row struct {
	key  string
	next []meta
}

// diff goes on to the state after a frame, in which rows are changed, and
// returns the messages that say so.
func (r *room) diff(f *presence.Frame, rows []row) (messages [][]byte) {
	var joins, leaves []byte
	for _, row := range rows {
		old := r.members[row.key]
		gone, come := without(old, row.next), without(row.next, old)
		if len(gone)+len(come) == 0 {
			continue
		}
		if len(row.next) > 0 {
			r.members[row.key] = row.next
		} else {
			delete(r.members, row.key)
		}
		replaced := gone
		if r.h.opts.Dialect == Supabase {
			// realtime-js forgets the phx_ref of what it holds when anything is
			// joined to it or leaves it. So all that a member has is joined anew,
			// and what has no phx_ref leaves.
			come, replaced = row.next, nil
			if len(old) > 0 {
				gone = append(gone, meta{})
			}
		}
		joins = appendMember(joins, row.key, come, replaced)
		leaves = appendMember(leaves, row.key, gone, nil)
	}
	r.seq, r.state = f.Seq, nil
	say := func(joins, leaves []byte) {
		payload := slices.Concat([]byte(`{"joins":{`), joins, []byte(`},"leaves":{`), leaves, []byte(`}}`))
		messages = append(messages, encode(nil, nil, r.key.topic, eventDiff, json.RawMessage(payload)))
	}
	switch {
	case r.h.opts.Dialect == Supabase:
		if len(joins) > 0 {
			say(joins, nil)
		}
		if len(leaves) > 0 {
			say(nil, leaves)
		}
	case len(joins)+len(leaves) > 0:
		say(joins, leaves)
	}
	if f.Group != r.group {
		r.group = f.Group
		messages = append(messages, r.grouped(f))
	}
	return messages
}

// grouped is the message that sums the channel up.
func (r *room) grouped(f *presence.Frame) []byte {
	return encode(nil, nil, r.key.topic, eventGroup, f.Group)
}

// without returns the entries of a list whose ref is not in another.
func without(list, other []meta) (rest []meta) {
	for _, m := range list {
		if !slices.ContainsFunc(other, func(o meta) bool { return o.ref == m.ref }) {
			rest = append(rest, m)
		}
	}
	return rest
}

// appendMember appends a member with its entries, if there are any, to the
// inside of an object. Entries that took another's place say whose.
func appendMember(b []byte, key string, list, before []meta) []byte {
	if len(list) == 0 {
		return b
	}
	if n := len(b); n > 0 && b[n-1] != '{' {
		b = append(b, ',')
	}
	name, _ := json.Marshal(key) // a string can be encoded
	b = append(b, name...)
	b = append(b, `:{"metas":[`...)
	for i, m := range list {
		if i > 0 {
			b = append(b, ',')
		}
		if m.ref == "" {
			b = append(b, `{}`...)
			continue
		}
		b = append(b, `{"phx_ref":"`...)
		b = append(b, m.ref...)
		b = append(b, `",`...)
		if i < len(before) && before[i].ref != m.ref {
			b = append(b, `"phx_ref_prev":"`...)
			b = append(b, before[i].ref...)
			b = append(b, `",`...)
		}
		b = append(b, m.body...)
	}
	return append(b, `]}`...)
}

// metas returns the entries of a member, or none if it is not to be shown. An
// entry's ref follows from what it says, so that it is the same to everybody
// who is told the same, and after a reconnect or a restart.
func (h *Handler) metas(v *presence.View) []meta {
	if v == nil || v.Class == "" || v.Class == presence.ClassOffline && !h.opts.Absent {
		return nil
	}
	view := *v
	view.Devices = 0              // another one changes nothing about those before it
	body, _ := json.Marshal(view) // a view can be encoded
	list := make([]meta, max(v.Devices, 1))
	sum := fnv.New64a()
	sum.Write(body)
	for i := range list {
		list[i] = meta{ref: strconv.FormatUint(sum.Sum64(), 36), body: body[1:]}
		sum.Write([]byte{0})
	}
	return list
}

// builtins are the names under which every object of JavaScript has something
// already. A member of such a name breaks clients that keep members in one.
var builtins = []string{
	"__proto__", "constructor", "hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable", "toLocaleString", "toString", "valueOf",
	"__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__",
}

// Key returns the key under which a subject is in presence lists: its id, with
// "~" before it where the id is a name that objects of JavaScript use
// themselves, such as "__proto__", or would be one without a "~" of its own.
func Key(subject presence.Ref) string {
	if slices.Contains(builtins, strings.TrimLeft(subject.ID, "~")) {
		return "~" + subject.ID
	}
	return subject.ID
}

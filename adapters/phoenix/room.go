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

// roomKey is the key of a room: all sockets that share it receive the same.
type roomKey struct {
	topic    string
	channel  presence.Channel
	audience presence.Audience
	form     serializer
}

// room turns the frames of one stream into messages, once for all sockets that
// receive it. Each socket brings the frames of its own watch, so that it never
// receives more than its watch. The first to bring a frame makes the room turn
// it.
type room struct {
	key   roomKey
	h     *Handler
	users int // under the handler's lock

	mu      sync.Mutex
	epoch   string
	seq     uint64
	group   presence.Group
	members map[string][]meta
	state   []byte     // the members as of seq, once a snapshot needed them
	log     [][][]byte // the messages of the last frames, the newest last
	size    int        // bytes in log
}

const (
	logFrames = 256     // kept for sockets that are behind
	logBytes  = 1 << 20 // of all kept messages, but the newest are always kept
)

// meta is one entry of a member. For an audience that sees the number of
// devices, each device has an entry.
type meta struct {
	ref  string
	body []byte // an object without its opening brace and phx_ref
}

// enter returns the room of a key. leave gives it back.
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

// turn returns the messages of a frame. It returns false if the room no longer
// knows the state before the frame: the socket then needs a snapshot.
func (r *room) turn(f *presence.Frame, joinRef *string) (messages [][]byte, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.Kind == presence.FrameSnapshot {
		state := r.snapshot(f)
		messages = append(messages, r.key.form.encode(joinRef, nil, r.key.topic, eventState, json.RawMessage(state)))
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

// snapshot returns the members of a snapshot. A newer snapshot moves the room
// to its state. Sockets that are behind get the difference once their own
// frames have reached that state.
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

// row is the next entries of a member.
type row struct {
	key  string
	next []meta
}

// diff moves the room to the state after a frame, which changes rows, and
// returns the messages of the change.
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
			// On any join or leave of a member, realtime-js removes the phx_ref
			// of the entries that it holds. So the message joins all entries of
			// the member again, and makes the entry without phx_ref leave.
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
		messages = append(messages, r.key.form.encode(nil, nil, r.key.topic, eventDiff, json.RawMessage(payload)))
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

// grouped returns the message with the group of the channel.
func (r *room) grouped(f *presence.Frame) []byte {
	return r.key.form.encode(nil, nil, r.key.topic, eventGroup, f.Group)
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

// appendMember appends a member with its entries to the inside of an object, or
// nothing if it has none. An entry that replaces another names it.
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

// metas returns the entries of a member, or none if the member is not shown. An
// entry's ref is a hash of its content. So it is the same for all who see the
// same, also after a reconnect or a restart.
func (h *Handler) metas(v *presence.View) []meta {
	if v == nil || v.Class == "" || v.Class == presence.ClassOffline && !h.opts.Absent {
		return nil
	}
	view := *v
	view.Devices = 0              // a further device keeps the refs of the entries before it
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

// builtins are the names of properties that every object of JavaScript has. A
// member with such a name breaks clients that keep members in an object.
var builtins = []string{
	"__proto__", "constructor", "hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable", "toLocaleString", "toString", "valueOf",
	"__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__",
}

// Key returns the key of a subject in presence lists: its id. An id that is a
// name of a property of every JavaScript object, such as "__proto__", gets a "~"
// before it. So does such a name with "~" before it.
func Key(subject presence.Ref) string {
	if slices.Contains(builtins, strings.TrimLeft(subject.ID, "~")) {
		return "~" + subject.ID
	}
	return subject.ID
}

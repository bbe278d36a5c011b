package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/presence-go/presence"
)

// The metrics of servers with many clients. They are of the server's process.
const (
	connectCPU    = "connect cpu"    // microseconds of processors a client, until all effects are over
	connectRate   = "connect rate"   // clients a second, until all are ready
	toldAll       = "told"           // milliseconds from the first connection to the last news
	delivered     = "delivered"      // thousands of messages with news of others
	deliveredMB   = "delivered MB"   // megabytes sent, all messages together
	clientRSS     = "client rss"     // resident bytes a client
	clientHeap    = "client heap"    // of the heap
	clientStack   = "client stack"   // of stacks
	clientGo      = "client go"      // goroutines a client
	disconnectCPU = "disconnect cpu" // microseconds of processors a client, when all leave at once
	disconnectAll = "disconnect all" // milliseconds until the server has removed all
	leaveCPU      = "leave cpu"      // milliseconds of processors, when half of every room leaves at once
	leaveAll      = "leave all"      // milliseconds until the remaining clients have the news of all departures
	eventP50      = "event p50"      // microseconds from one client's join until its room has the news
	eventP99      = "event p99"
	messageCPU    = "message cpu" // microseconds of the server's processors a message
	writeCPU      = "write cpu"   // write(2) only, of the same bytes to the same sockets
	againstWrite  = "against write"
	lastArrival   = "last"       // milliseconds until the last client has it
	lastWrite     = "last write" // write(2) only
)

// webSockets are G11 to G13, G15 and G16.
func webSockets(r *runner) error {
	return errors.Join(
		r.measure(idleSockets(r.options)), r.measure(ownChannels(r.options)), r.measure(fullRooms(r.options)),
		r.measure(storm(r.options)), r.measure(pacedSockets(r.options)), r.measure(broadcast(r.options)),
	)
}

func idleSockets(o options) experiment {
	n := idleClients(o)
	return experiment{
		id: "ws-mem", goals: []string{"G13"}, size: n,
		title: fmt.Sprintf("%s idle WebSockets in rooms of %d: what each takes in the server's process; then all close at once", count(n), roomSize),
		columns: []column{
			{metric: clientRSS, header: "resident", ratio: true}, {metric: clientHeap, header: "heap"}, {metric: clientStack, header: "stacks"},
			{metric: clientGo, header: "goroutines"}, {metric: disconnectCPU, header: "close cpu us"}, {metric: disconnectAll, header: "all closed ms"},
		},
		cases: []benchCase{
			{name: "epoll loop", role: floor, fresh: "ws-mem/epoll"},
			{name: "goroutine a socket", role: floor, fresh: "ws-mem/goroutine"},
			{name: "ours", role: ours, fresh: "ws-mem/ours"},
			{name: "ours, visitors that only watch", role: ours, fresh: "ws-mem/ours-visitor"},
			{name: "Centrifuge", role: peer, fresh: "ws-mem/centrifuge"},
			{name: "Centrifuge, tuned buffers", role: peer, fresh: "ws-mem/centrifuge-tuned"},
		},
	}
}

func ownChannels(o options) experiment {
	n := idleClients(o)
	return experiment{
		id: "ws-own", goals: []string{"G15"}, size: n,
		title: fmt.Sprintf("%s clients connect over WebSockets, each to a channel of its own, and close at once", count(n)),
		columns: []column{
			{metric: connectCPU, header: "connect cpu us", ratio: true}, {metric: connectRate, header: "a second"},
			{metric: disconnectCPU, header: "close cpu us"}, {metric: disconnectAll, header: "all closed ms"}, {metric: clientRSS, header: "resident"},
		},
		cases: []benchCase{
			{name: "goroutine a socket", role: floor, fresh: "ws-own/goroutine"},
			{name: "ours", role: ours, fresh: "ws-own/ours"},
			{name: "Centrifuge", role: peer, fresh: "ws-own/centrifuge"},
		},
	}
}

func fullRooms(o options) experiment {
	n := roomClients(o)
	return experiment{
		id: "ws-rooms", goals: []string{"G12", "G15"}, size: n,
		title: fmt.Sprintf("%s clients fill rooms of %d over WebSockets; single ones leave and come back; half of every room leaves at once", count(n), roomSize),
		columns: []column{
			{metric: connectCPU, header: "connect cpu us", ratio: true}, {metric: connectRate, header: "a second", ratio: true},
			{metric: delivered, header: "thousand told"}, {metric: deliveredMB, header: "MB"},
			{metric: eventP50, header: "one joins, p50 us"}, {metric: eventP99, header: "p99 us"},
			{metric: leaveCPU, header: "half leaves, cpu ms"}, {metric: leaveAll, header: "all told ms"},
		},
		cases: []benchCase{
			{name: "by hand", role: byHand, fresh: "ws-rooms/goroutine"},
			{name: "by hand, changes of 50 ms together", role: floor, fresh: "ws-rooms/coalesce"},
			{name: "ours", role: ours, fresh: "ws-rooms/ours"},
			{name: "ours, changes of 50 ms together", role: ours, fresh: "ws-rooms/ours-batch"},
			{name: "ours, so and granted as they come", role: ours, fresh: "ws-rooms/ours-coming"},
			{name: "Centrifuge", role: peer, fresh: "ws-rooms/centrifuge"},
		},
	}
}

func storm(o options) experiment {
	n := crowdClients(o)
	return experiment{
		id: "ws-one", goals: []string{"G12"}, size: n,
		title: fmt.Sprintf("%s clients come into one channel over WebSockets, all of whom watch it", count(n)),
		columns: []column{
			{metric: connectCPU, header: "join cpu us", ratio: true}, {metric: connectRate, header: "a second", ratio: true},
			{metric: toldAll, header: "all told ms"}, {metric: delivered, header: "thousand told"}, {metric: deliveredMB, header: "MB"},
		},
		cases: []benchCase{
			{name: "by hand, changes of 50 ms together", role: floor, fresh: "ws-one/coalesce"},
			{name: "ours", role: ours, fresh: "ws-one/ours"},
			{name: "ours, changes of 50 ms together", role: ours, fresh: "ws-one/ours-batch"},
			{name: "ours, so and granted as they come", role: ours, fresh: "ws-one/ours-coming"},
			{name: "Centrifuge", role: peer, fresh: "ws-one/centrifuge"},
			{name: "Centrifuge, asked for the list", role: peer, fresh: "ws-one/centrifuge-list"},
		},
	}
}

func pacedSockets(o options) experiment {
	n, rate, length := beating(o)
	return experiment{
		id: "ws-hb", goals: []string{"G16"}, size: n,
		title:   fmt.Sprintf("heartbeats over %s WebSockets, %s a second, for %v", count(n), count(rate), length),
		columns: []column{{metric: messageCPU, header: "cpu us a heartbeat", ratio: true}},
		cases: []benchCase{
			{name: "epoll loop", role: floor, fresh: "ws-hb/epoll"},
			{name: "goroutine a socket", role: floor, fresh: "ws-hb/goroutine"},
			{name: "ours", role: ours, fresh: "ws-hb/ours"},
			{name: "ours, each with new input", role: ours, fresh: "ws-hb/active"},
			{name: "Centrifuge, a message to the application", role: peer, fresh: "ws-hb/centrifuge"},
		},
	}
}

func broadcast(o options) experiment {
	n := idleClients(o)
	return experiment{
		id: "ws-bcast", goals: []string{"G11"}, size: n,
		title: fmt.Sprintf("one change to %s WebSockets, and the same bytes to the same sockets by write(2) alone", count(n)),
		columns: []column{
			{metric: againstWrite, header: "cpu against write(2)"}, {metric: messageCPU, header: "cpu us a socket", ratio: true}, {metric: writeCPU, header: "write(2) cpu us"},
			{metric: lastArrival, header: "last arrival ms"}, {metric: lastWrite, header: "write(2) ms"},
		},
		cases: []benchCase{
			{name: "ours", role: ours, fresh: "ws-bcast/ours"},
			{name: "Centrifuge, a publication", role: peer, fresh: "ws-bcast/centrifuge"},
		},
	}
}

// eventStreams is G14.
func eventStreams(r *runner) error {
	n := idleClients(r.options)
	return r.measure(experiment{
		id: "sse-mem", goals: []string{"G14"}, size: n,
		title: fmt.Sprintf("%s idle event streams in rooms of %d: what each takes in the server's process", count(n), roomSize),
		columns: []column{
			{metric: clientRSS, header: "resident", ratio: true}, {metric: clientHeap, header: "heap"}, {metric: clientStack, header: "stacks"},
			{metric: clientGo, header: "goroutines"}, {metric: connectCPU, header: "connect cpu us"}, {metric: disconnectCPU, header: "close cpu us"},
		},
		cases: []benchCase{
			{name: "goroutine a stream", role: floor, fresh: "sse-mem/goroutine"},
			{name: "ours", role: ours, fresh: "sse-mem/ours"},
			{name: "net/http + channel", role: byHand, fresh: "sse-mem/http-channel"},
		},
	})
}

// gathering is the assignment of clients to rooms.
type gathering struct {
	clients int
	place   string   // the name of the assignment
	rooms   []string // of each client
	ids     []string
}

// places are the assignments of clients to rooms.
var places = map[string]func(*population) []string{"own": roomOfOne, "rooms": ownRoom, "one": oneChannel}

func gather(clients int, place string) gathering {
	p := newPopulation(clients)
	return gathering{clients, place, places[place](p), p.ids}
}

// roomOfOne gives each user a room of its own.
func roomOfOne(p *population) []string {
	rooms := make([]string, p.size())
	for i := range rooms {
		rooms[i] = "own-" + strconv.Itoa(i)
	}
	return rooms
}

// The numbers of clients, smaller in tests.
func clientCount(o options, full, quick int) int {
	if o.tiny {
		return quick / 5
	}
	return o.size(full, quick)
}

func idleClients(o options) int  { return clientCount(o, 10_000, 500) }
func roomClients(o options) int  { return clientCount(o, 5_000, 500) }
func crowdClients(o options) int { return clientCount(o, 2_500, 250) }

// speechOf is the speech for a kind of server.
func speechOf(kind string, g gathering, role string) speech {
	var s speech
	switch kind {
	case "centrifuge", "centrifuge-tuned", "centrifuge-list":
		s.request = func(i int) string { return requestOf("/connection", cmpRole(role, g.ids[i]), g.rooms[i], "") }
		s.script = func(i int) []turn {
			room := strconv.Quote(g.rooms[i])
			lines := []turn{
				{`{"id":1,"connect":{}}`, `"connect":`},
				{`{"id":2,"subscribe":{"channel":` + room + `}}`, `"subscribe":`},
			}
			if kind == "centrifuge-list" {
				lines = append(lines, turn{`{"id":3,"presence":{"channel":` + room + `}}`, `"presence":`})
			}
			return lines
		}
		s.news = func(m []byte) int {
			if !bytes.HasPrefix(m, []byte(`{"push":`)) && !bytes.Contains(m, []byte("\n{\"push\":")) {
				return 0
			}
			return bytes.Count(m, []byte(`"join":`)) + bytes.Count(m, []byte(`"leave":`)) + bytes.Count(m, []byte(`"pub":`))
		}
		s.joins = 1
	default:
		mine := strings.HasPrefix(kind, "ours")
		if kind == "ours-visitor" {
			role = string(presence.RoleVisitor)
		}
		s.invited = mine && kind != "ours-coming" && role == ""
		s.request = func(i int) string {
			if mine && kind != "ours-coming" {
				return requestOf("/presence", g.ids[i], "", role)
			}
			return requestOf("/presence", g.ids[i], g.rooms[i], role)
		}
		s.script = func(i int) []turn {
			answer := `{"type":"snapshot"`
			if !mine {
				answer = `{"type":"diff"`
			}
			return []turn{
				{`{"type":"hello","v":1}`, `{"type":"welcome"`},
				{`{"type":"watch","channel":` + strconv.Quote(g.rooms[i]) + `}`, answer},
			}
		}
		s.news = func(m []byte) int {
			if bytes.HasPrefix(m, []byte(`{"type":"diff"`)) || bytes.HasPrefix(m, []byte(`{"type":"snapshot"`)) {
				return 1
			}
			return 0
		}
		if s.joins = 1; mine {
			s.joins = 0
		}
		s.counts = role == "" && kind != "epoll"
	}
	return s
}

// cmpRole is the id of a client. The id of a client with a role, which only
// watches, begins with w.
func cmpRole(role, id string) string {
	if role != "" {
		return "w" + id
	}
	return "m" + id
}

// serviceOf is the server for a kind of clients.
func serviceOf(kind string) string {
	switch kind {
	case "centrifuge-list":
		return "centrifuge"
	case "ours-visitor":
		return "ours"
	case "ours-coming":
		return "ours-batch"
	}
	return kind
}

// stillness is the time without news after which a server is quiet. No figure
// contains it.
func stillness(o options) time.Duration {
	return o.length(250*time.Millisecond, 80*time.Millisecond)
}

// scene is a part of a measurement, once all clients are connected.
type scene func(*server, *clients, gathering, sample) error

// meeting measures how clients connect to a server, and then the scenes.
func meeting(o options, service string, words speech, g gathering, then ...scene) (sample, error) {
	return withServer(o, service, func(s *server) (got sample, err error) {
		got = make(sample)
		f, err := newClients(s.Address, g.clients, stillness(o), words)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		idle, err := s.do(doMemory)
		if err != nil {
			return nil, err
		}
		if words.invited {
			if _, err := s.do(fmt.Sprint(doInvite, " ", g.place, " ", g.clients)); err != nil {
				return nil, err
			}
		}
		var began time.Time
		used, err := s.spends(func() error {
			began = time.Now()
			if err := f.connect(0, g.clients); err != nil {
				return err
			}
			got[connectRate] = float64(g.clients) / time.Since(began).Seconds()
			return f.settle(f.told(sizes(g.rooms)))
		})
		if err != nil {
			return nil, err
		}
		n := float64(g.clients)
		got[connectCPU] = used / n / 1e3
		got[toldAll] = ms(max(0, f.last.Sub(began)))
		got[delivered], got[deliveredMB] = float64(f.frames)/1e3, float64(f.Received)/1e6
		busy, err := s.do(doMemory)
		if err != nil {
			return nil, err
		}
		for metric, of := range map[string]string{clientRSS: rssBytes, clientHeap: heapBytes, clientStack: stackBytes, clientGo: goroutines} {
			got[metric] = (busy[of] - idle[of]) / n
		}
		for _, do := range then {
			if err := do(s, f, g, got); err != nil {
				return nil, err
			}
		}
		return got, nil
	})
}

// sizes counts the clients of every room, for each client.
func sizes(rooms []string) func(client int) int {
	count := make(map[string]int)
	for _, room := range rooms {
		count[room]++
	}
	return func(client int) int { return count[rooms[client]] }
}

// told returns whether every client has the number of clients in its room, for
// servers that send it.
func (f *clients) told(members func(client int) int) func() bool {
	return func() bool {
		return !f.counts || !slices.ContainsFunc(f.sockets, func(s *socket) bool { return s != nil && s.count != members(s.Client) })
	}
}

// settle reads until the server is quiet and a condition holds.
func (f *clients) settle(so func() bool) error {
	for deadline := time.Now().Add(patience); ; {
		if err := f.quiet(f.still); err != nil || so() {
			return err
		}
		if time.Now().After(deadline) {
			return errors.New("the server is quiet, but some clients miss news")
		}
	}
}

// everybodyLeaves closes all clients at once.
func everybodyLeaves(s *server, f *clients, g gathering, got sample) error {
	used, err := s.spends(func() error {
		began := time.Now()
		for _, c := range f.sockets {
			f.drop(c)
		}
		_, err := s.do(doEmpty)
		got[disconnectAll] = ms(time.Since(began))
		return err
	})
	got[disconnectCPU] = used / float64(g.clients) / 1e3
	return err
}

// someCome closes single clients and connects them again, one after the other.
func someCome(events int) scene {
	return func(_ *server, f *clients, g gathering, got sample) error {
		var took []time.Duration
		for e := range events {
			client := e * g.clients / events
			var others []*socket
			for i, s := range f.sockets {
				if i != client && g.rooms[i] == g.rooms[client] {
					others = append(others, s)
				}
			}
			all := heardBy(others)
			f.drop(f.sockets[client])
			if err := f.until(all); err != nil {
				return err
			}
			all = heardBy(others)
			if err := f.connect(client, client+1); err != nil {
				return err
			}
			if err := f.until(all); err != nil {
				return err
			}
			last := slices.MaxFunc(others, func(a, b *socket) int { return a.heard.Compare(b.heard) })
			took = append(took, last.heard.Sub(f.sockets[client].said))
			if err := f.quiet(5 * time.Millisecond); err != nil {
				return err
			}
		}
		slices.Sort(took)
		got[eventP50], got[eventP99] = float64(quantile(took, 0.5))/1e3, float64(quantile(took, 0.99))/1e3
		return nil
	}
}

// heardBy returns whether each of some clients has received news since.
func heardBy(list []*socket) func() bool {
	before := make([]int, len(list))
	for i, s := range list {
		before[i] = s.news
	}
	return func() bool {
		for i, s := range list {
			if s.news == before[i] {
				return false
			}
		}
		return true
	}
}

// halfLeaves closes half of every room at once.
func halfLeaves(s *server, f *clients, g gathering, got sample) error {
	seen := make(map[string]int)
	var leaving, staying []*socket
	members := sizes(g.rooms)
	for i, c := range f.sockets {
		if seen[g.rooms[i]]++; seen[g.rooms[i]] <= members(i)/2 {
			leaving = append(leaving, c)
		} else {
			staying = append(staying, c)
		}
	}
	before := make(map[*socket]int)
	for _, c := range staying {
		before[c] = c.news
	}
	all := f.told(func(client int) int { return members(client) - members(client)/2 })
	if !f.counts {
		all = func() bool {
			return !slices.ContainsFunc(staying, func(c *socket) bool { return c.news-before[c] < members(c.Client)/2 })
		}
	}
	used, err := s.spends(func() error {
		began := time.Now()
		for _, c := range leaving {
			f.drop(c)
		}
		err := f.settle(all)
		got[leaveAll] = ms(f.last.Sub(began))
		return err
	})
	got[leaveCPU] = used / 1e6
	return err
}

// beating returns the sizes of a run of heartbeats. All clients send in turn,
// at a fixed rate, and get no answer.
func beating(o options) (clients, rate int, length time.Duration) {
	return idleClients(o), o.size(20_000, 5_000), o.length(3*time.Second, 500*time.Millisecond)
}

// heartbeatsOver sends heartbeats at a rate and measures the server's processor
// time. Unless active, they are those of an idle page, without input since the
// last.
func heartbeatsOver(kind string, active bool) freshCase {
	return func(o options) (sample, error) {
		n, rate, length := beating(o)
		if o.tiny {
			rate = 1000
		}
		g := gather(n, "own")
		service := kind
		if kind == "ours" {
			service = "ours-asking"
		}
		return meeting(o, service, speechOf(kind, g, ""), g, func(s *server, f *clients, _ gathering, got sample) error {
			say := heartbeatOf(kind, active)
			if kind == "ours" {
				if _, err := s.do(doPing); err != nil {
					return err
				}
				if err := f.until(func() bool {
					return !slices.ContainsFunc(f.sockets, func(c *socket) bool { return c.pinged == 0 })
				}); err != nil {
					return err
				}
			}
			if _, err := f.pace(rate, time.Duration(float64(time.Second)*float64(n)/float64(rate)), say); err != nil { // one heartbeat of each client
				return err
			}
			sent := 0
			used, err := s.spends(func() (err error) {
				sent, err = f.pace(rate, length, say)
				time.Sleep(20 * time.Millisecond) // until the last ones are read
				return err
			})
			if err != nil {
				return err
			}
			if f.Gone > 0 {
				return fmt.Errorf("%d clients were let go", f.Gone)
			}
			got[messageCPU] = used / float64(sent) / 1e3
			return nil
		})
	}
}

// heartbeatOf returns the function for the text of a heartbeat.
func heartbeatOf(kind string, active bool) func() string {
	if kind == "centrifuge" { // Centrifuge has no heartbeats with an age
		return func() string { return `{"send":{"data":{"idle":60000,"visible":true}}}` }
	}
	began := time.Now()
	return func() string {
		idle := time.Since(began).Milliseconds() + 60_000
		if active {
			idle = 100
		}
		return `{"type":"pong","seq":1,"idle":` + strconv.FormatInt(idle, 10) + `,"visible":true}`
	}
}

// pace makes clients send in turn, at a rate a second for some time. It returns
// the number of messages.
func (c *clients) pace(rate int, length time.Duration, say func() string) (sent int, err error) {
	for start := time.Now(); ; {
		elapsed := time.Since(start)
		for due := int(float64(rate) * min(elapsed, length).Seconds()); sent < due; sent++ {
			if err := c.Say(c.sockets[sent%len(c.sockets)].Socket, say()); err != nil {
				return sent, err
			}
		}
		if elapsed >= length {
			return sent, nil
		}
		if err := c.poll(time.Millisecond); err != nil {
			return sent, err
		}
	}
}

// broadcasts sends one change to all clients, alternately by the library and by
// write(2) only, and measures both.
func broadcasts(kind string) freshCase {
	return func(o options) (sample, error) {
		n := idleClients(o)
		g := gather(n, "one")
		return meeting(o, kind, speechOf(kind, g, "supervisor"), g, func(s *server, f *clients, _ gathering, got sample) error {
			one := func(what string) (cpu, last float64, err error) {
				if err := f.quiet(20 * time.Millisecond); err != nil {
					return 0, 0, err
				}
				aim, began := f.frames+n, time.Now()
				used, err := s.spends(func() error {
					asked := make(chan error, 1)
					began = time.Now()
					go func() { _, err := s.do(what); asked <- err }()
					return errors.Join(f.until(func() bool { return f.frames >= aim }), <-asked)
				})
				return used / float64(n) / 1e3, ms(f.last.Sub(began)), err
			}
			for range 2 { // the first round has more than one change
				if _, _, err := one(doPublish); err != nil {
					return err
				}
			}
			rounds := clientCount(o, 15, 5)
			var all [5][]float64
			for range rounds {
				raw, rawLast, err := one(doWrite)
				if err != nil {
					return err
				}
				own, last, err := one(doPublish)
				if err != nil {
					return err
				}
				for i, v := range []float64{own, raw, own / raw, last, rawLast} {
					all[i] = append(all[i], v)
				}
			}
			for i, metric := range []string{messageCPU, writeCPU, againstWrite, lastArrival, lastWrite} {
				got[metric] = median(all[i])
			}
			return nil
		})
	}
}

// streamsOf opens event streams.
func streamsOf(kind string) freshCase {
	return func(o options) (sample, error) {
		g := gather(idleClients(o), "rooms")
		s := speech{stream: true, joins: -1, counts: kind == "ours", invited: kind == "ours"}
		s.request = func(i int) string {
			path := "/events"
			if kind == "ours" {
				path = "/presence/events"
			}
			return "GET " + path + "?id=" + g.ids[i] + "&watch=" + g.rooms[i] + " HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
		}
		s.script = func(int) []turn {
			if kind == "ours" {
				return []turn{{"", `"type":"snapshot"`}}
			}
			return []turn{{"", "welcome"}}
		}
		s.news = func(m []byte) int {
			return bytes.Count(m, []byte(`{"type":"diff"`)) + bytes.Count(m, []byte(`{"type":"snapshot"`))
		}
		return meeting(o, kind, s, g, everybodyLeaves)
	}
}

// meetingsOf are the cases of one way to meet, by name.
func meetingsOf(name string, size func(options) int, place string, kinds []string, then func(options) []scene) map[string]freshCase {
	all := make(map[string]freshCase)
	for _, kind := range kinds {
		all[name+"/"+kind] = func(o options) (sample, error) {
			g := gather(size(o), place)
			service := serviceOf(kind)
			if name == "ws-one" && service != "coalesce" {
				service += "-storm"
			}
			return meeting(o, service, speechOf(kind, g, ""), g, then(o)...)
		}
	}
	return all
}

var socketCases = func() map[string]freshCase {
	all := map[string]freshCase{
		"ws-hb/ours":           heartbeatsOver("ours", false),
		"ws-hb/active":         heartbeatsOver("ours", true),
		"ws-hb/centrifuge":     heartbeatsOver("centrifuge", false),
		"ws-hb/goroutine":      heartbeatsOver("goroutine", false),
		"ws-hb/epoll":          heartbeatsOver("epoll", false),
		"ws-bcast/ours":        broadcasts("ours"),
		"ws-bcast/centrifuge":  broadcasts("centrifuge"),
		"sse-mem/ours":         streamsOf("ours"),
		"sse-mem/goroutine":    streamsOf("goroutine"),
		"sse-mem/http-channel": streamsOf("http-channel"),
	}
	leave := func(options) []scene { return []scene{everybodyLeaves} }
	maps.Copy(all, meetingsOf("ws-mem", idleClients, "rooms", []string{"ours", "ours-visitor", "centrifuge", "centrifuge-tuned", "goroutine", "epoll"}, leave))
	maps.Copy(all, meetingsOf("ws-own", idleClients, "own", []string{"ours", "centrifuge", "goroutine"}, leave))
	maps.Copy(all, meetingsOf("ws-rooms", roomClients, "rooms", []string{"ours", "ours-batch", "ours-coming", "centrifuge", "goroutine", "coalesce"}, func(o options) []scene {
		return []scene{someCome(clientCount(o, 50, 10)), halfLeaves}
	}))
	maps.Copy(all, meetingsOf("ws-one", crowdClients, "one", []string{"ours", "ours-batch", "ours-coming", "centrifuge", "centrifuge-list", "coalesce"}, func(options) []scene { return nil }))
	return all
}()

package xmpp_test

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/xmpp"
	"github.com/presence-go/presence/internal/seeds"
	"github.com/presence-go/presence/preset"
)

// world is a gateway between a tracker and a server that a test plays, in a
// bubble.
type world struct {
	t       *testing.T
	tracker *presence.Tracker
	gateway *xmpp.Gateway
	dialled chan net.Conn
	stop    func()
	ended   chan error
}

const secret = "s3cret"

func bubble(t *testing.T, change func(*presence.Options, *xmpp.Options), test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, dialled: make(chan net.Conn), ended: make(chan error, 1)}
		policy := preset.TawkTo()
		policy.Statuses = append(policy.Statuses, presence.Status{ID: "call", Label: "On a call", Class: presence.ClassBusy})
		options := presence.Options{Policy: &policy}
		opts := xmpp.Options{Domain: "agents.example", Secret: secret, Observer: observer, Dial: w.dial}
		if change != nil {
			change(&options, &opts)
		}
		var err error
		w.tracker, err = presence.New(&options)
		require.NoError(t, err)
		w.gateway, err = xmpp.New(w.tracker, &opts)
		require.NoError(t, err)
		for _, id := range []string{"ann", "cyd lee"} {
			require.NoError(t, w.tracker.AddMember(t.Context(), presence.ChannelID("sales"), presence.ID(id)))
		}
		ctx, cancel := context.WithCancel(t.Context())
		w.stop = cancel
		var running sync.WaitGroup
		running.Go(func() { w.ended <- w.gateway.Run(ctx) })
		running.Go(func() { _ = w.tracker.Run(ctx) })
		t.Cleanup(func() {
			cancel()
			_ = w.tracker.Close()
			running.Wait()
		})
		test(t, w)
	})
}

// observer lets bob see what the team sees, guests what visitors see, and
// mallory nothing.
func observer(_ context.Context, jid string) (presence.Actor, error) {
	switch id, _, _ := strings.Cut(jid, "@"); id {
	case "bob", "eve":
		return presence.Agent(presence.ID(id)), nil
	case "boss":
		return presence.Actor{Subject: presence.ID(id), Role: presence.RoleSupervisor}, nil
	case "later":
		return presence.Actor{}, errors.New("the directory is down")
	case "mallory":
		return presence.Actor{}, fmt.Errorf("%w: no", presence.ErrNotAllowed)
	default:
		return presence.Actor{Subject: presence.ID(id), Role: presence.RoleVisitor}, nil
	}
}

func (w *world) dial(ctx context.Context) (net.Conn, error) {
	mine, theirs := net.Pipe()
	select {
	case w.dialled <- mine:
		return theirs, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// server is the XMPP server of one connection. It keeps what users are sent.
type server struct {
	t    *testing.T
	conn net.Conn
	done chan struct{}

	mu    sync.Mutex
	got   []stanza
	users map[string]map[string]stanza // by user and subject, the last presence
}

type stanza struct {
	XMLName xml.Name
	From    string `xml:"from,attr"`
	To      string `xml:"to,attr"`
	Type    string `xml:"type,attr"`
	ID      string `xml:"id,attr"`
	Show    string `xml:"show"`
	Status  string `xml:"status"`
	Idle    *struct {
		Since string `xml:"since,attr"`
	} `xml:"urn:xmpp:idle:1 idle"`
	Inner string `xml:",innerxml"`
}

// accept takes the next connection and checks the handshake.
func (w *world) accept() *server {
	w.t.Helper()
	s := &server{t: w.t, conn: <-w.dialled, done: make(chan struct{}), users: make(map[string]map[string]stanza)}
	w.t.Cleanup(func() { s.conn.Close() })
	d := xml.NewDecoder(s.conn)
	open := next(w.t, d)
	require.Equal(w.t, "stream", open.Name.Local)
	s.say(`<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' from='agents.example' id='abc&amp;1'>`)
	shake := next(w.t, d)
	var proof string
	require.NoError(w.t, d.DecodeElement(&proof, &shake))
	sum := sha1.Sum([]byte("abc&1" + secret))
	require.Equal(w.t, hex.EncodeToString(sum[:]), proof)
	s.say(`<handshake/>`)
	go s.read(d)
	synctest.Wait()
	return s
}

func next(t *testing.T, d *xml.Decoder) xml.StartElement {
	t.Helper()
	for {
		token, err := d.Token()
		require.NoError(t, err)
		if e, ok := token.(xml.StartElement); ok {
			return e
		}
	}
}

func (s *server) read(d *xml.Decoder) {
	defer close(s.done)
	for {
		token, err := d.Token()
		if err != nil {
			return
		}
		e, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		var st stanza
		if d.DecodeElement(&st, &e) != nil {
			return
		}
		s.mu.Lock()
		s.got = append(s.got, st)
		if st.XMLName.Local == "presence" && (st.Type == "" || st.Type == "unavailable") {
			user, _, _ := strings.Cut(st.To, "/")
			if s.users[user] == nil {
				s.users[user] = make(map[string]stanza)
			}
			subject, _, _ := strings.Cut(st.From, "/")
			s.users[user][subject] = st
		}
		s.mu.Unlock()
	}
}

func (s *server) say(text string) {
	s.t.Helper()
	_, err := io.WriteString(s.conn, text)
	require.NoError(s.t, err)
}

// ask sends a stanza and returns the answers.
func (s *server) ask(text string) []stanza {
	s.t.Helper()
	synctest.Wait()
	s.mu.Lock()
	n := len(s.got)
	s.mu.Unlock()
	s.say(text)
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got[n:]
}

func (s *server) subscribe(user, node string) []stanza {
	s.t.Helper()
	return s.ask(`<presence type='subscribe' from='` + user + `@home.example' to='` + node + `@agents.example'/>`)
}

// sees returns what a user was last sent of a subject, as "type show text".
func (s *server) sees(user, node string) string {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	st, ok := s.users[user+"@home.example"][node+"@agents.example"]
	if !ok {
		return "nothing"
	}
	return strings.TrimSpace(st.Type + " " + st.Show + " " + st.Status)
}

func kinds(list []stanza) (out []string) {
	for _, st := range list {
		out = append(out, strings.TrimSpace(st.XMLName.Local+" "+st.Type))
	}
	return out
}

func (w *world) connect(id string) *presence.Conn {
	w.t.Helper()
	c, err := w.tracker.Connect(w.t.Context(), presence.ID(id), presence.ConnectOptions{Login: true})
	require.NoError(w.t, err)
	return c
}

func (w *world) choose(c *presence.Conn, claim presence.Claim) {
	w.t.Helper()
	_, err := c.Claim(w.t.Context(), claim)
	require.NoError(w.t, err)
}

func TestSubscribersSeeTheirProjection(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		s := w.accept()
		require.Equal(t, []string{"presence subscribed", "presence unavailable"}, kinds(s.subscribe("bob", "ann")))
		s.subscribe("guest", "ann")
		s.subscribe("boss", "ann")
		ann := w.connect("ann")
		require.Equal(t, "Online", s.sees("bob", "ann"))
		require.Equal(t, "chat Online", s.sees("boss", "ann"))
		w.choose(ann, presence.Claim{Status: "call", Text: `back <soon> & "well"`})
		require.Equal(t, `dnd back <soon> & "well"`, s.sees("bob", "ann"))
		require.Equal(t, "dnd On a call", s.sees("guest", "ann"), "visitors are told no text")
		w.choose(ann, presence.Claim{Status: "away"})
		require.Equal(t, "away Away", s.sees("guest", "ann"))
		w.choose(ann, presence.Claim{Status: "invisible"})
		require.Equal(t, "unavailable", s.sees("guest", "ann"))
		require.NotEqual(t, "unavailable", s.sees("bob", "ann"))
		require.NoError(t, ann.Logout())
		require.Equal(t, "unavailable", s.sees("bob", "ann"))
		require.Equal(t, 3, w.gateway.Subscriptions())
		require.Equal(t, "ann@agents.example/presence", s.users["bob@home.example"]["ann@agents.example"].From)
	})
}

func TestProbes(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		s := w.accept()
		w.connect("ann")
		// After a restart here, the user's server knows of a subscription and we do not.
		got := s.ask(`<presence type='probe' from='bob@home.example/phone' to='ann@agents.example'/>`)
		require.Equal(t, []string{"presence"}, kinds(got))
		got = s.ask(`<presence type='probe' from='bob@home.example/phone' to='ann@agents.example'/>`)
		require.Equal(t, []string{"presence"}, kinds(got))
		require.Equal(t, "bob@home.example/phone", got[0].To)
		require.Equal(t, 1, w.gateway.Subscriptions())
		// An unknown subject may appear later. A user who may not see it stays
		// refused.
		require.Equal(t, []string{"presence unavailable"}, kinds(s.ask(`<presence type='probe' from='bob@home.example' to='zoe@agents.example'/>`)))
		require.Equal(t, []string{"presence unsubscribed"}, kinds(s.ask(`<presence type='probe' from='mallory@home.example' to='ann@agents.example'/>`)))
		require.Equal(t, []string{"presence unavailable"}, kinds(s.ask(`<presence type='probe' from='later@home.example' to='ann@agents.example'/>`)))
	})
}

func TestRefusedSubscriptions(t *testing.T) {
	bubble(t, func(_ *presence.Options, o *xmpp.Options) { o.MaxSubscriptions, o.MaxPerObserver = 3, 2 }, func(t *testing.T, w *world) {
		for _, id := range []string{"a", "b", "c"} {
			require.NoError(t, w.tracker.AddMember(t.Context(), presence.ChannelID("sales"), presence.ID(id)))
		}
		s := w.accept()
		refused := []string{"presence unsubscribed"}
		require.Equal(t, refused, kinds(s.subscribe("mallory", "ann")))
		require.Equal(t, refused, kinds(s.subscribe("bob", "zoe")), "nobody of that name")
		require.Equal(t, refused, kinds(s.subscribe("bob", strings.Repeat("x", 200))))
		require.Empty(t, s.subscribe("later", "ann"), "left pending")
		s.subscribe("bob", "a")
		s.subscribe("bob", "b")
		require.Equal(t, refused, kinds(s.subscribe("bob", "c")), "two are all that one may have")
		s.subscribe("eve", "a")
		require.Equal(t, refused, kinds(s.subscribe("guest", "a")), "three are all there may be")
		require.Equal(t, refused, kinds(s.ask(`<presence type='unsubscribe' from='bob@home.example' to='a@agents.example'/>`)))
		require.Equal(t, "presence subscribed", kinds(s.subscribe("guest", "a"))[0])
		require.Equal(t, 3, w.gateway.Subscriptions())
		require.Equal(t, refused, kinds(s.ask(`<presence type='unsubscribe' from='bob@home.example' to='a@agents.example'/>`)), "again")
	})
}

// authorizer lets everybody see until it does not.
type authorizer struct{ refuses atomic.Bool }

func (a *authorizer) Allow(_ context.Context, q presence.Question) error {
	if q.Action == presence.ActionSee && a.refuses.Load() {
		return presence.ErrNotAllowed
	}
	return nil
}

func TestAccessTakenAway(t *testing.T) {
	var changes []string
	rules := new(authorizer)
	bubble(t, func(o *presence.Options, x *xmpp.Options) {
		o.Authorizer, o.AuthorizeEvery = rules, time.Minute
		x.Changed = func(s xmpp.Subscription, on bool) {
			changes = append(changes, fmt.Sprint(s.Observer, " ", s.Node, " ", on))
		}
	}, func(t *testing.T, w *world) {
		s := w.accept()
		s.subscribe("bob", "ann")
		ann := w.connect("ann")
		require.Equal(t, "Online", s.sees("bob", "ann"))
		rules.refuses.Store(true)
		time.Sleep(2 * time.Minute)
		_ = ann.Close()
		ann = w.connect("ann")
		w.choose(ann, presence.Claim{Status: "away", Text: "psst"})
		require.Equal(t, "unavailable", s.sees("bob", "ann"))
		require.Equal(t, "unsubscribed", s.got[len(s.got)-1].Type)
		require.Zero(t, w.gateway.Subscriptions())
		require.Equal(t, []string{"bob@home.example ann true", "bob@home.example ann false"}, changes)
	})
}

func TestErasedSubjectIsUnavailable(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		s := w.accept()
		w.connect("ann")
		s.subscribe("bob", "ann")
		require.NoError(t, w.tracker.Erase(t.Context(), presence.ID("ann")))
		require.Equal(t, "unavailable", s.sees("bob", "ann"))
	})
}

// Under a policy by which visitors list only who is online, the others are
// unavailable, and still subscribed to.
func TestUnlisted(t *testing.T) {
	bubble(t, func(o *presence.Options, _ *xmpp.Options) { o.Policy.Widget.List = "online" }, func(t *testing.T, w *world) {
		s := w.accept()
		require.Equal(t, []string{"presence subscribed", "presence unavailable"}, kinds(s.subscribe("guest", "ann")))
		ann := w.connect("ann")
		require.Equal(t, "Online", s.sees("guest", "ann"))
		w.choose(ann, presence.Claim{Status: "away"})
		require.Equal(t, "unavailable", s.sees("guest", "ann"))
		w.choose(ann, presence.Claim{Status: "online"})
		require.Equal(t, "Online", s.sees("guest", "ann"))
	})
}

func TestReconnectsAndMakesUpForIt(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		s := w.accept()
		ann := w.connect("ann")
		s.subscribe("bob", "ann")
		s.conn.Close()
		synctest.Wait()
		w.choose(ann, presence.Claim{Status: "call"})
		// The server is down for a while. The pauses grow, to a minute.
		last := time.Now()
		for i := range 12 {
			c := <-w.dialled
			pause := time.Since(last)
			require.LessOrEqual(t, pause, min(time.Second<<i, time.Minute))
			last = time.Now()
			if i%2 == 0 {
				next(t, xml.NewDecoder(c))
				_, _ = io.WriteString(c, `<stream:stream xmlns:stream='http://etherx.jabber.org/streams' id='1'><stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>`)
			}
			c.Close()
		}
		ann = w.connect("ann")
		w.choose(ann, presence.Claim{Status: "away"})
		s = w.accept()
		require.Equal(t, "away Away", s.sees("bob", "ann"))
		s.say(`</stream:stream>`)
		w.connect("ann") // it may take a minute
		s = w.accept()
		require.Equal(t, "Online", s.sees("bob", "ann"))
	})
}

func TestKnownSubscriptions(t *testing.T) {
	bubble(t, func(_ *presence.Options, o *xmpp.Options) {
		o.Subscriptions = []xmpp.Subscription{{"bob@home.example", xmpp.Node("cyd lee")}, {"mallory@home.example", "ann"}}
	}, func(t *testing.T, w *world) {
		w.connect("cyd lee")
		s := w.accept()
		require.Equal(t, "Online", s.sees("bob", `cyd\20lee`))
		require.Equal(t, 1, w.gateway.Subscriptions())
	})
}

func TestFarewell(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		s := w.accept()
		w.connect("ann")
		s.subscribe("bob", "ann")
		require.ErrorIs(t, w.gateway.Run(t.Context()), presence.ErrInvalid, "it is running already")
		w.stop()
		require.ErrorIs(t, <-w.ended, context.Canceled)
		<-s.done
		require.Equal(t, "unavailable", s.sees("bob", "ann"))
	})
}

func TestTrackerClosedKeepsSubscriptions(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		s := w.accept()
		w.connect("ann")
		s.subscribe("bob", "ann")
		require.NoError(t, w.tracker.Close())
		require.Equal(t, "unavailable", s.sees("bob", "ann"))
		require.NotEqual(t, "unsubscribed", s.got[len(s.got)-1].Type)
	})
}

func TestIdleSince(t *testing.T) {
	bubble(t, func(o *presence.Options, _ *xmpp.Options) { o.Policy = nil }, func(t *testing.T, w *world) {
		s := w.accept()
		s.subscribe("boss", "ann")
		ann := w.connect("ann")
		began := time.Now()
		for range 20 {
			time.Sleep(20 * time.Second)
			require.NoError(t, ann.Heartbeat())
		}
		require.Equal(t, "away Away", s.sees("boss", "ann"))
		require.Equal(t, presence.At(began.Add(5*time.Minute)).String(), s.users["boss@home.example"]["ann@agents.example"].Idle.Since)
	})
}

func TestQuestionsAndMessages(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		s := w.accept()
		got := s.ask(`<iq type='get' id='1' from='bob@home.example/x' to='agents.example'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>`)
		require.Equal(t, []string{"iq result"}, kinds(got))
		require.Contains(t, got[0].Inner, `category="gateway"`)
		require.Equal(t, "1", got[0].ID)
		require.Contains(t, s.ask(`<iq type='get' id='1' from='bob@home.example/x' to='ann@agents.example'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>`)[0].Inner, `category="account"`)
		require.Equal(t, []string{"iq result"}, kinds(s.ask(`<iq type='get' id='2' from='bob@home.example/x' to='agents.example'><ping xmlns='urn:xmpp:ping'/></iq>`)))
		got = s.ask(`<iq type='get' id='3' from='bob@home.example/x' to='agents.example'><vCard xmlns='vcard-temp'/></iq>`)
		require.Equal(t, []string{"iq error"}, kinds(got))
		require.Contains(t, got[0].Inner, "service-unavailable")
		require.Equal(t, []string{"iq error"}, kinds(s.ask(`<iq type='set' id='4' from='bob@home.example/x' to='agents.example'/>`)))
		require.Equal(t, []string{"message error"}, kinds(s.ask(`<message type='chat' from='bob@home.example/x' to='ann@agents.example'><body>hi</body></message>`)))
		for _, ignored := range []string{
			`<iq type='result' id='3' from='bob@home.example/x' to='agents.example'/>`, `<message type='error' from='a@b' to='ann@agents.example'/>`,
			`<presence from='bob@home.example' to='ann@agents.example'/>`, `<presence type='subscribe' from='bob@home.example' to='agents.example'/>`,
			`<presence type='subscribe' to='ann@agents.example'/>`, `<presence type='subscribe' from='bob@home.example' to='ann@elsewhere.example'/>`,
			`<presence type='subscribe' from='` + strings.Repeat("x", 3000) + `@home.example' to='ann@agents.example'/>`, `<nonsense/>`, "  \n",
		} {
			require.Empty(t, s.ask(ignored), ignored)
		}
		require.Zero(t, w.gateway.Subscriptions())
	})
}

func TestOverlongStanzaEndsTheConnection(t *testing.T) {
	for name, text := range map[string]string{
		"text": "<message><body>" + strings.Repeat("x", 1<<20), "attributes": "<message " + strings.Repeat("a='b' ", 1<<18),
		"depth": strings.Repeat("<a>", 1<<18), "not XML": "<presence type='subscribe'></iq>",
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, w *world) {
				s := w.accept()
				_, _ = io.WriteString(s.conn, text)
				<-s.done
				w.accept()
			})
		})
	}
}

// The gateway gives up a server that takes nothing, and keeps its limits
// meanwhile.
func TestStuckServer(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		s := w.accept()
		ann := w.connect("ann")
		s.subscribe("bob", "ann")
		s.conn.Close()
		synctest.Wait()
		w.choose(ann, presence.Claim{Status: "call"})
		stuck := <-w.dialled
		defer stuck.Close()
		d := xml.NewDecoder(stuck)
		next(t, d)
		_, err := io.WriteString(stuck, `<stream:stream xmlns:stream='http://etherx.jabber.org/streams' id='1'>`)
		require.NoError(t, err)
		next(t, d)
		require.NoError(t, d.Skip())
		_, err = io.WriteString(stuck, `<handshake/>`)
		require.NoError(t, err)
		s = w.accept() // after the timeout
		require.Equal(t, "dnd On a call", s.sees("bob", "ann"))
	})
}

func TestOptions(t *testing.T) {
	_, err := xmpp.New(nil, &xmpp.Options{Domain: "a@b", MaxSubscriptions: -1, MaxPerObserver: -1, MaxStanza: 100, WriteTimeout: -1})
	for _, word := range []string{"tracker", "Domain", "Secret", "Observer", "Address and Dial", "MaxSubscriptions", "MaxPerObserver", `"MaxStanza": 100`, "WriteTimeout"} {
		require.ErrorContains(t, err, word)
	}
}

func TestShow(t *testing.T) {
	for _, c := range []struct {
		view presence.View
		want xmpp.Shown
	}{
		{presence.View{Class: presence.ClassAvailable, Label: "Open"}, xmpp.Shown{Available: true, Status: "Open"}},
		{presence.View{Class: presence.ClassAvailable, Routable: true}, xmpp.Shown{Available: true, Show: "chat"}},
		{presence.View{Class: presence.ClassAway, Cause: presence.CauseClosed}, xmpp.Shown{Available: true, Show: "xa"}},
		{presence.View{Class: presence.ClassAway, Cause: presence.CauseManual, Text: "lunch"}, xmpp.Shown{Available: true, Show: "away", Status: "lunch"}},
		{presence.View{Class: presence.ClassBusy}, xmpp.Shown{Available: true, Show: "dnd"}},
		{presence.View{Class: presence.ClassDND}, xmpp.Shown{Available: true, Show: "dnd"}},
		{presence.View{Class: presence.ClassOffline, Label: "Offline"}, xmpp.Shown{}},
		{presence.View{Status: presence.StatusUnknown}, xmpp.Shown{}},
	} {
		require.Equal(t, c.want, xmpp.Show(c.view))
	}
}

// Whatever happens, in the end every user has been sent the core's projection.
func TestRandomScripts(t *testing.T) {
	for _, seed := range seeds.List(t, 20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, func(o *presence.Options, _ *xmpp.Options) { o.WatchBuffer = 1 + int(seed%4) }, func(t *testing.T, w *world) {
				r := rand.New(rand.NewPCG(seed, 3))
				s := w.accept()
				users := map[string]presence.Audience{"bob": presence.AudienceTeam, "guest": presence.AudienceVisitor, "boss": presence.AudienceSupervisor}
				nodes := map[string]string{"ann": "ann", "cyd lee": `cyd\20lee`}
				for user := range users {
					for _, node := range nodes {
						s.subscribe(user, node)
					}
				}
				conns := make(map[string]*presence.Conn)
				for range 100 {
					id := []string{"ann", "cyd lee"}[r.IntN(2)]
					c := conns[id]
					switch roll := r.IntN(6); {
					case c == nil:
						conns[id] = w.connect(id)
					case roll < 3:
						_, _ = c.Claim(t.Context(), presence.Claim{Status: []string{"online", "away", "invisible", "call"}[r.IntN(4)], Text: []string{"", "x"}[r.IntN(2)], For: time.Duration(r.IntN(2)) * time.Minute})
					case roll == 3:
						_ = c.Leave([]presence.Cause{presence.CauseClosed, presence.CauseLost, presence.CauseLogout}[r.IntN(3)])
						conns[id] = nil
					case roll == 4 && r.IntN(4) == 0:
						s.conn.Close()
						s = w.accept()
					default:
						time.Sleep(time.Duration(r.IntN(9000)) * time.Millisecond)
					}
				}
				for user, a := range users {
					for id, node := range nodes {
						v, err := w.tracker.GetAs(t.Context(), a, presence.ID(id))
						require.NoError(t, err)
						want := "unavailable"
						if shown := xmpp.Show(v); shown.Available {
							want = strings.TrimSpace(" " + shown.Show + " " + shown.Status)
						}
						require.Equal(t, want, s.sees(user, node), "%s of %s", user, id)
					}
				}
			})
		})
	}
}

func FuzzNode(f *testing.F) {
	for _, id := range []string{"ann", "cyd lee", `a\20b`, `\5c20`, `d'artagnan@"x"/<y>&:`, `\`, `\5`, ""} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		node := xmpp.Node(id)
		require.NotContains(t, node, "@")
		require.NotContains(t, node, "/")
		require.Equal(t, id, xmpp.Unescape(node))
	})
}

// FuzzStream sends arbitrary bytes as a server might. The gateway continues or
// connects again.
func FuzzStream(f *testing.F) {
	for _, text := range []string{
		`<presence type='subscribe' from='bob@home.example' to='ann@agents.example'/>`, `<iq type='get' id='1' from='a' to='agents.example'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>`,
		`<presence type='probe' from='bob@home.example' to='&#x1F600;\20@agents.example'/>`, `<!DOCTYPE x [<!ENTITY a "b">]><message from='a' to='x@agents.example'>&a;</message>`,
		`<stream:error/>`, `</stream:stream>`, `<a b='`, "\xff\xfe", `<message from='a@b' to='x@agents.example' id='"&lt;'/>`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		bubble(t, nil, func(t *testing.T, w *world) {
			s := w.accept()
			_, _ = io.WriteString(s.conn, text)
			synctest.Wait()
			require.LessOrEqual(t, w.gateway.Subscriptions(), 1+len(text)/20)
			s.conn.Close()
			w.accept()
		})
	})
}

// fault 33: who removes a contact last sees it unavailable.
func TestUnsubscribersSeeTheEnd(t *testing.T) {
	for name, end := range map[string]string{
		"unsubscribe":          `<presence type='unsubscribe' from='bob@home.example' to='ann@agents.example'/>`,
		"from a client":        `<presence type='unsubscribe' from='bob@home.example/phone' to='ann@agents.example' id='7'/>`,
		"of the roster":        `<presence type='unsubscribe' from='bob@home.example' to='ann@agents.example'/><presence type='unsubscribed' from='bob@home.example' to='ann@agents.example'/>`,
		"of the roster, again": `<presence type='unsubscribed' from='bob@home.example' to='ann@agents.example'/><presence type='unsubscribe' from='bob@home.example' to='ann@agents.example'/>`,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, w *world) {
				s := w.accept()
				ann := w.connect("ann")
				s.subscribe("bob", "ann")
				s.subscribe("eve", "ann")
				require.Equal(t, "Online", s.sees("bob", "ann"))
				got := s.ask(end)
				require.Equal(t, []string{"presence unsubscribed", "presence unavailable"}, kinds(got))
				require.Equal(t, "ann@agents.example", got[0].From)
				require.Equal(t, "ann@agents.example/presence", got[1].From)
				require.Equal(t, "bob@home.example", got[1].To)
				w.choose(ann, presence.Claim{Status: "away"})
				require.Equal(t, "unavailable", s.sees("bob", "ann"), "nothing follows")
				require.Equal(t, "away Away", s.sees("eve", "ann"))
				require.Equal(t, []string{"presence unsubscribed"}, kinds(s.ask(end)), "again")
				s.subscribe("bob", "ann")
				require.Equal(t, "away Away", s.sees("bob", "ann"))
			})
		})
	}
}

// fault 33: a user who was sent that the subject is unavailable, also after an
// outage, is sent it once.
func TestUnsubscribeAfterUnavailable(t *testing.T) {
	bubble(t, func(_ *presence.Options, o *xmpp.Options) {
		o.Subscriptions = []xmpp.Subscription{{Observer: "bob@home.example", Node: "ann"}}
	}, func(t *testing.T, w *world) {
		s := w.accept()
		require.Equal(t, "unavailable", s.sees("bob", "ann"))
		ann := w.connect("ann")
		require.Equal(t, "Online", s.sees("bob", "ann"))
		s.conn.Close()
		synctest.Wait()
		require.NoError(t, ann.Logout()) // while the gateway has no connection
		s = w.accept()
		require.Equal(t, []string{"presence unsubscribed"}, kinds(s.ask(`<presence type='unsubscribe' from='bob@home.example' to='ann@agents.example'/>`)))
		require.Equal(t, "unavailable", s.sees("bob", "ann"))
	})
}

// fault 33: after random subscriptions and ends of them, and whatever the
// subject does meanwhile, a user who is not subscribed sees nothing, and one who
// is sees the subject.
func TestRandomSubscriptions(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	ends := 0
	for range 20 {
		bubble(t, nil, func(t *testing.T, w *world) {
			s := w.accept()
			ann := w.connect("ann")
			subscribed := make(map[string]bool)
			users := []string{"bob", "eve", "boss"}
			stanza := func(kind, user string) string {
				client := []string{"", "/phone"}[r.IntN(2)]
				return fmt.Sprintf(`<presence type='%s' from='%s@home.example%s' to='ann@agents.example'/>`, kind, user, client)
			}
			for range 60 {
				user := users[r.IntN(len(users))]
				switch r.IntN(7) {
				case 0, 1:
					s.say(stanza("subscribe", user))
					subscribed[user] = true
				case 2:
					s.say(stanza("unsubscribe", user))
					ends++
					subscribed[user] = false
				case 3:
					s.say(stanza("unsubscribed", user))
				case 4:
					time.Sleep(7 * time.Second) // claims are limited
					_ = ann.Heartbeat()
					w.choose(ann, presence.Claim{Status: []string{"away", "call", "online"}[r.IntN(3)], Text: fmt.Sprint(r.IntN(9))})
				case 5:
					if subscribed[user] {
						s.say(stanza("probe", user))
					}
				default:
					synctest.Wait()
				}
				if r.IntN(2) == 0 {
					synctest.Wait()
				}
			}
			time.Sleep(7 * time.Second)
			w.choose(ann, presence.Claim{Status: "away", Text: "last"})
			for _, user := range users {
				if sees := s.sees(user, "ann"); subscribed[user] {
					require.Equal(t, "away last", sees, "seed %d, %s", seed, user)
				} else {
					require.Contains(t, []string{"nothing", "unavailable"}, sees, "seed %d, %s", seed, user)
				}
			}
		})
	}
	require.Greater(t, ends, 50)
}

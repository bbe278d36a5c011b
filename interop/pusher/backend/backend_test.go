// Package backend runs the server library of Pusher for Go, unmodified, against
// the HTTP API, the signatures and the webhooks of the adapter.
package backend

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	client "github.com/pusher/pusher-http-go/v5"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/pusher"
)

// world is the adapter with a client of its HTTP API.
type world struct {
	*testing.T
	client.Client
	tracker *presence.Tracker
	address string
	hooks   chan client.WebhookEvent
}

func newWorld(t *testing.T) *world {
	w := &world{T: t, hooks: make(chan client.WebhookEvent, 100)}
	app := client.Client{AppID: "1", Key: "key", Secret: "secret", EncryptionMasterKeyBase64: base64.StdEncoding.EncodeToString(make([]byte, 32))}
	hooked := app // a client writes to itself at its first use, so each goroutine has its own
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		hook, err := hooked.Webhook(r.Header, body)
		switch {
		case err != nil && strings.Contains(string(body), "private-encrypted-"):
			return // the library decrypts the data of channel_occupied, which has none
		case err != nil:
			t.Errorf("a webhook is not valid: %v", err)
			return
		}
		for _, e := range hook.Events {
			w.hooks <- e
		}
	}))
	t.Cleanup(receiver.Close)
	policy := presence.DefaultPolicy()
	policy.Grace = presence.Grace{Close: time.Millisecond, Loss: time.Millisecond}
	var err error
	w.tracker, err = presence.New(&presence.Options{Policy: &policy})
	w.must(err)
	go w.tracker.Run(t.Context())
	served := pusher.App{ID: "1", Key: "key", Secret: "secret", Webhooks: []pusher.Webhook{{URL: receiver.URL}}}
	handler, err := pusher.New(w.tracker, &pusher.Options{Apps: []pusher.App{served}, VacatedAfter: 10 * time.Millisecond})
	w.must(err)
	server := httptest.NewServer(handler)
	t.Cleanup(func() {
		handler.Close()
		server.Close()
		w.tracker.Close()
	})
	w.address = server.Listener.Addr().String()
	w.Client = app
	w.Host = w.address
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) equal(want, got any) {
	w.Helper()
	if !reflect.DeepEqual(want, got) {
		w.Fatalf("want %#v, got %#v", want, got)
	}
}

// message is a message of the server.
type message struct {
	Event, Channel, Data string
}

// socket is a small client of the protocol.
type socket struct {
	*world
	conn net.Conn
	in   *bufio.Reader
	id   string
}

func (w *world) open() *socket {
	conn, err := net.Dial("tcp", w.address)
	w.must(err)
	w.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	_, err = io.WriteString(conn, "GET /app/key?protocol=7 HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
	w.must(err)
	s := &socket{world: w, conn: conn, in: bufio.NewReader(conn)}
	response, err := http.ReadResponse(s.in, nil)
	w.must(err)
	w.equal(http.StatusSwitchingProtocols, response.StatusCode)
	var data struct {
		ID string `json:"socket_id"`
	}
	w.must(json.Unmarshal([]byte(s.next("pusher:connection_established").Data), &data))
	s.id = data.ID
	return s
}

// send sends an event, with a mask of zeroes.
func (s *socket) send(event string, data any) {
	s.Helper()
	text, err := json.Marshal(map[string]any{"event": event, "data": data})
	s.must(err)
	var b bytes.Buffer
	if len(text) < 126 {
		b.Write([]byte{0x81, 0x80 | byte(len(text))})
	} else {
		b.Write([]byte{0x81, 0x80 | 126})
		binary.Write(&b, binary.BigEndian, uint16(len(text)))
	}
	b.Write(make([]byte, 4))
	b.Write(text)
	_, err = s.conn.Write(b.Bytes())
	s.must(err)
}

// next returns the next message, which must have a name.
func (s *socket) next(event string) (m message) {
	s.Helper()
	var head [2]byte
	_, err := io.ReadFull(s.in, head[:])
	s.must(err)
	n := int(head[1])
	if n == 126 {
		var long [2]byte
		_, err = io.ReadFull(s.in, long[:])
		s.must(err)
		n = int(binary.BigEndian.Uint16(long[:]))
	}
	text := make([]byte, n)
	_, err = io.ReadFull(s.in, text)
	s.must(err)
	s.must(json.Unmarshal(text, &m))
	if m.Event != event {
		s.Fatalf("want %s, got %s", event, text)
	}
	return m
}

// subscribe subscribes to channels, in the name of a user on presence channels.
// The library signs.
func (s *socket) subscribe(user string, channels ...string) *socket {
	s.Helper()
	for _, channel := range channels {
		params := []byte(url.Values{"socket_id": {s.id}, "channel_name": {channel}}.Encode())
		signed, err := []byte("{}"), error(nil)
		switch {
		case strings.HasPrefix(channel, "presence-"):
			s.must(s.tracker.AddMember(s.Context(), presence.ChannelID(strings.TrimPrefix(channel, "presence-")), presence.ID(user)))
			signed, err = s.AuthorizePresenceChannel(params, client.MemberData{UserID: user, UserInfo: map[string]string{"name": "The " + user}})
		case strings.HasPrefix(channel, "private-"):
			signed, err = s.AuthorizePrivateChannel(params)
		}
		s.must(err)
		data := map[string]any{}
		s.must(json.Unmarshal(signed, &data))
		delete(data, "shared_secret")
		data["channel"] = channel
		s.send("pusher:subscribe", data)
		s.equal(channel, s.next("pusher_internal:subscription_succeeded").Channel)
	}
	return s
}

func TestLibraryTriggers(t *testing.T) {
	w := newWorld(t)
	s := w.open().subscribe("", "news", "private-a")
	w.must(w.Trigger("news", "e", map[string]int{"a": 1}))
	w.equal(message{"e", "news", `{"a":1}`}, s.next("e"))
	w.must(w.TriggerMulti([]string{"news", "private-a"}, "e", "text"))
	w.equal(message{"e", "news", "text"}, s.next("e"))
	w.equal(message{"e", "private-a", "text"}, s.next("e"))
	others := client.TriggerParams{SocketID: &s.id}
	_, err := w.TriggerWithParams("news", "not this", 1, others)
	w.must(err)
	_, err = w.TriggerMultiWithParams([]string{"news", "private-a"}, "nor this", 1, others)
	w.must(err)
	w.must(w.Trigger("news", "last", 1))
	s.next("last")
	if err := w.Trigger("news", "e", strings.Repeat("x", 10<<10+1)); err == nil {
		t.Fatal("data of more than 10 KiB was sent")
	}
}

func TestLibraryTriggersWithInfo(t *testing.T) {
	w := newWorld(t)
	w.open().subscribe("ann", "news", "presence-sales")
	w.open().subscribe("ann", "presence-sales")
	counts, subscriptions := "user_count,subscription_count", "subscription_count"
	list, err := w.TriggerWithParams("presence-sales", "e", 1, client.TriggerParams{Info: &counts})
	w.must(err)
	one, two := 1, 2
	w.equal(map[string]client.TriggerChannelListItem{"presence-sales": {UserCount: &one, SubscriptionCount: &two}}, list.Channels)
	list, err = w.TriggerMultiWithParams([]string{"news", "presence-sales"}, "e", 1, client.TriggerParams{Info: &subscriptions})
	w.must(err)
	w.equal(map[string]client.TriggerChannelListItem{"news": {SubscriptionCount: &one}, "presence-sales": {SubscriptionCount: &two}}, list.Channels)
	list, err = w.TriggerWithParams("news", "e", 1, client.TriggerParams{})
	w.must(err)
	w.equal(0, len(list.Channels))
}

func TestLibraryTriggersBatches(t *testing.T) {
	w := newWorld(t)
	s := w.open().subscribe("", "news", "private-a")
	info := "subscription_count"
	list, err := w.TriggerBatch([]client.Event{
		{Channel: "news", Name: "one", Data: 1}, {Channel: "news", Name: "two", Data: 2, SocketID: &s.id}, {Channel: "private-a", Name: "three", Data: 3, Info: &info},
	})
	w.must(err)
	w.equal("news", s.next("one").Channel)
	w.equal("private-a", s.next("three").Channel)
	one := 1
	w.equal([]client.TriggerBatchChannelListItem{{}, {}, {SubscriptionCount: &one}}, list.Batch)
	list, err = w.TriggerBatch([]client.Event{{Channel: "news", Name: "four", Data: 4}})
	w.must(err)
	w.equal(0, len(list.Batch))
}

func TestLibraryEncrypts(t *testing.T) {
	w := newWorld(t)
	s := w.open().subscribe("", "private-encrypted-a")
	w.must(w.Trigger("private-encrypted-a", "e", "secret"))
	got := s.next("e").Data
	if !strings.Contains(got, "ciphertext") || strings.Contains(got, "secret") {
		t.Fatal(got)
	}
}

func TestLibrarySignsIn(t *testing.T) {
	w := newWorld(t)
	s := w.open()
	signed, err := w.AuthenticateUser([]byte("socket_id="+s.id), map[string]any{"id": "ann", "user_info": map[string]string{"name": "Ann"}})
	w.must(err)
	var data map[string]any
	w.must(json.Unmarshal(signed, &data))
	s.send("pusher:signin", data)
	s.next("pusher:signin_success")
	s.subscribe("", "#server-to-user-ann")
	w.must(w.SendToUser("ann", "hello", "you"))
	w.equal("you", s.next("hello").Data)
}

func TestLibraryReadsChannels(t *testing.T) {
	w := newWorld(t)
	w.open().subscribe("ann", "news", "presence-sales")
	w.open().subscribe("bob", "presence-sales")
	list, err := w.Channels(client.ChannelsParams{})
	w.must(err)
	w.equal(map[string]client.ChannelListItem{"news": {}, "presence-sales": {}}, list.Channels)
	prefix, users := "presence-", "user_count"
	list, err = w.Channels(client.ChannelsParams{FilterByPrefix: &prefix, Info: &users})
	w.must(err)
	w.equal(map[string]client.ChannelListItem{"presence-sales": {UserCount: 2}}, list.Channels)
	if _, err = w.Channels(client.ChannelsParams{Info: &users}); err == nil {
		t.Fatal("user_count of public channels was answered")
	}
	counts := "user_count,subscription_count"
	channel, err := w.Channel("presence-sales", client.ChannelParams{Info: &counts})
	w.must(err)
	w.equal(&client.Channel{Name: "presence-sales", Occupied: true, UserCount: 2, SubscriptionCount: 2}, channel)
	channel, err = w.Channel("empty", client.ChannelParams{})
	w.must(err)
	w.equal(&client.Channel{Name: "empty"}, channel)
	members, err := w.GetChannelUsers("presence-sales")
	w.must(err)
	w.equal([]client.User{{ID: "ann"}, {ID: "bob"}}, members.List)
}

func TestLibraryIsRefused(t *testing.T) {
	w := newWorld(t)
	other := w.Client
	other.Secret = "other"
	if err := other.Trigger("news", "e", 1); err == nil {
		t.Fatal("an event with a wrong signature was sent")
	}
}

// hooked waits for the next webhook of presence-sales.
func (w *world) hooked(name, user string) {
	w.Helper()
	select {
	case got := <-w.hooks:
		w.equal(client.WebhookEvent{Name: name, Channel: "presence-sales", UserID: user}, got)
	case <-time.After(30 * time.Second):
		w.Fatal("not in time: ", name)
	}
}

func TestLibraryReadsWebhooks(t *testing.T) {
	w := newWorld(t)
	s := w.open().subscribe("7", "presence-sales")
	w.hooked("channel_occupied", "")
	w.hooked("member_added", "7") // no webhook names who leaves before it is sent
	s.conn.Close()
	w.hooked("member_removed", "7")
	w.hooked("channel_vacated", "")
}

package xmpp_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/xmpp"
)

// A component that shows agents to the users of one XMPP server, and keeps their
// subscriptions in a file.
func ExampleNew() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	tracker, err := presence.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer tracker.Close()
	go tracker.Run(ctx)
	kept, err := openSubscriptions("subscriptions.json")
	if err != nil {
		log.Fatal(err)
	}
	gateway, err := xmpp.New(tracker, &xmpp.Options{
		Domain: "agents.example.org", Secret: os.Getenv("COMPONENT_SECRET"), Address: "localhost:5347",
		Observer: func(_ context.Context, jid string) (presence.Actor, error) {
			user, found := strings.CutSuffix(jid, "@example.org")
			if !found {
				return presence.Actor{}, fmt.Errorf("%w: %s is not of our server", presence.ErrNotAllowed, jid)
			}
			return presence.Agent(presence.ID(user)), nil
		},
		Subscriptions: slices.Clone(kept.list), Changed: kept.change,
	})
	if err != nil {
		log.Fatal(err)
	}
	log.Print(gateway.Run(ctx))
}

// subscriptions are kept in a file as JSON.
type subscriptions struct {
	path string

	mu   sync.Mutex
	list []xmpp.Subscription
}

func openSubscriptions(path string) (*subscriptions, error) {
	s := &subscriptions{path: path}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &s.list)
	}
	return s, err
}

// change is for Options.Changed.
func (s *subscriptions) change(sub xmpp.Subscription, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = slices.DeleteFunc(s.list, func(old xmpp.Subscription) bool { return old == sub })
	if on {
		s.list = append(s.list, sub)
	}
	data, err := json.Marshal(s.list)
	if err == nil {
		err = os.WriteFile(s.path, data, 0o600)
	}
	if err != nil {
		log.Print(err)
	}
}

package xmpp_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/xmpp"
)

// A component that shows agents to the users of one XMPP server.
func ExampleNew() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	tracker, err := presence.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer tracker.Close()
	go tracker.Run(ctx)
	gateway, err := xmpp.New(tracker, xmpp.Options{
		Domain: "agents.example.org", Secret: os.Getenv("COMPONENT_SECRET"), Address: "localhost:5347",
		Observer: func(_ context.Context, jid string) (presence.Actor, error) {
			user, found := strings.CutSuffix(jid, "@example.org")
			if !found {
				return presence.Actor{}, fmt.Errorf("%w: %s is not of our server", presence.ErrNotAllowed, jid)
			}
			return presence.Agent(presence.ID(user)), nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	log.Print(gateway.Run(ctx))
}

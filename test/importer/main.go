// Command importer uses the root module and adapters/ws as an application does.
// scripts/standalone runs it outside the workspace.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/ws"
)

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) (err error) {
	tracker, err := presence.New(nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tracker.Close()) }()
	ann := presence.ID("ann")
	handler, err := ws.NewHandler(tracker, &ws.Options{Authenticate: func(*http.Request) (presence.Identity, error) {
		return presence.Identity{Actor: presence.Agent(ann)}, nil
	}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, handler.Close()) }()
	if _, err := tracker.Connect(ctx, ann, presence.ConnectOptions{Login: true}); err != nil {
		return err
	}
	view, err := tracker.GetAs(ctx, presence.AudienceTeam, ann)
	if err != nil {
		return err
	}
	if view.Class != presence.ClassAvailable {
		return fmt.Errorf("ann is %s", view.Class)
	}

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler}
	go server.Serve(listener)
	defer server.Close()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+listener.Addr().String(), nil)
	if err != nil {
		return err
	}
	request.Header = http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("a WebSocket is refused with %s", response.Status)
	}
	fmt.Println("importer: ann is", view.Status+", and a WebSocket opens")
	return nil
}

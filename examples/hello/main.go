// Hello is the smallest presence server with a page. Open it in two windows.
package main

import (
	"context"
	_ "embed"
	"fmt"
	"log"
	"net/http"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/ws"
	"github.com/presence-go/presence/client"
)

//go:embed page.html
var page []byte

func main() {
	tracker, err := presence.New(nil)
	check(err)
	go tracker.Run(context.Background())
	team := presence.ChannelID("team")
	sockets, err := ws.NewHandler(tracker, &ws.Options{Authenticate: func(r *http.Request) (presence.Identity, error) {
		name := presence.ID(r.FormValue("name")) // an application takes the name from its login
		return presence.Identity{Actor: presence.Agent(name)}, tracker.AddMember(r.Context(), team, name)
	}})
	check(err)
	http.Handle("/presence", sockets)
	http.Handle("/client/", http.StripPrefix("/client", http.FileServerFS(client.Files())))
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { w.Write(page) })
	go watch(context.Background(), tracker, team)
	log.Print("open http://127.0.0.1:8080/?name=ann and ?name=bob")
	check(http.ListenAndServe("127.0.0.1:8080", nil))
}

// watch prints what changes in a channel.
func watch(ctx context.Context, tracker *presence.Tracker, channel presence.Channel) {
	watch, err := tracker.Watch(ctx, presence.System(presence.ID("hello")), channel, presence.WatchOptions{})
	check(err)
	for {
		frame, err := watch.Next(ctx) // a snapshot, then diffs
		check(err)
		for _, change := range frame.Changes {
			fmt.Println(change.Op, change.View)
		}
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

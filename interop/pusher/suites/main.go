// Command suites serves the adapter for Pusher clients to test suites of other
// projects: on the ports, under the keys and with the backend that they expect.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/pusher"
)

func main() {
	backends := flag.String("backends", "", "addresses of the backends that the specs of pusher-js call, of mt1 and eu, separated by a comma")
	sockets := flag.String("sockets", "127.0.0.1:0", "address of sockets and the HTTP API")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := serve(ctx, *sockets, *backends); err != nil {
		log.Fatal(err)
	}
}

// The keys are those in the specs of pusher-js, then those of soketi's tests.
var apps = []pusher.App{
	{ID: "mt1", Key: "c49a449b916bb4246729", Secret: "mt1", Tenant: "mt1", AllowedOrigins: []string{"*"}},
	{ID: "eu", Key: "cb7d5e50f5669e5c9ae6", Secret: "eu", Tenant: "eu", AllowedOrigins: []string{"*"}},
	{ID: "app-id", Key: "app-key", Secret: "app-secret", Tenant: "soketi"},
}

// server is a tracker behind the adapter.
type server struct {
	tracker *presence.Tracker
	handler *pusher.Handler
}

func serve(ctx context.Context, sockets, backends string) error {
	policy := presence.DefaultPolicy()
	policy.Grace = presence.Grace{Close: 100 * time.Millisecond, Loss: 100 * time.Millisecond}
	tracker, err := presence.New(&presence.Options{Policy: &policy})
	if err != nil {
		return err
	}
	defer tracker.Close()
	go tracker.Run(ctx)
	handler, err := pusher.New(tracker, &pusher.Options{Apps: apps, MessagesPerSecond: 1000})
	if err != nil {
		return err
	}
	defer handler.Close()
	s := &server{tracker: tracker, handler: handler}

	plain, err := net.Listen("tcp", sockets)
	if err != nil {
		return err
	}
	cert, err := certificate()
	if err != nil {
		return err
	}
	secure, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		return err
	}
	failed := make(chan error, 4)
	open := func(l net.Listener, h http.Handler) {
		web := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
		context.AfterFunc(ctx, func() { web.Close() })
		go func() { failed <- web.Serve(l) }()
	}
	open(plain, s.granting())
	open(secure, s.granting())
	if backends != "" {
		for i, address := range strings.Split(backends, ",") {
			l, err := net.Listen("tcp", address)
			if err != nil {
				return err
			}
			open(l, s.backend(apps[i]))
		}
	}
	fmt.Println(plain.Addr().(*net.TCPAddr).Port, secure.Addr().(*net.TCPAddr).Port)
	if err := <-failed; ctx.Err() == nil {
		return err
	}
	return nil
}

// granting serves sockets and the HTTP API, grants, and the number of sockets.
// The suites sign their users themselves and know nothing of grants.
func (s *server) granting() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", s.handler)
	mux.HandleFunc("GET /sockets", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, s.handler.Sockets()) })
	mux.HandleFunc("POST /grant/{app}", func(w http.ResponseWriter, r *http.Request) {
		for _, app := range apps {
			if app.ID == r.PathValue("app") {
				if err := s.grant(r.Context(), app, r.FormValue("channel"), r.FormValue("user")); err != nil {
					http.Error(w, err.Error(), http.StatusBadRequest)
				}
			}
		}
	})
	return mux
}

// grant makes a user a member of a presence channel.
func (s *server) grant(ctx context.Context, app pusher.App, channel, user string) error {
	name, is := strings.CutPrefix(channel, "presence-")
	if !is {
		return nil
	}
	return s.tracker.AddMember(ctx, presence.Channel{Tenant: app.Tenant, ID: strings.TrimPrefix(name, "cache-")}, presence.Ref{Tenant: app.Tenant, ID: user})
}

// backend returns the app's own backend as the specs of pusher-js expect it: it
// signs every socket as a user of the socket's id, and sends events.
func (s *server) backend(app pusher.App) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/auth", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("Access-Control-Allow-Headers", "*")
		if r.Method == http.MethodOptions {
			return
		}
		channel, socket := r.FormValue("channel_name"), r.FormValue("socket_id")
		info, _ := json.Marshal(map[string]string{"name": "Integration " + socket, "email": "integration-" + socket + "@example.com"})
		user := &pusher.User{ID: socket, Info: info}
		if !strings.HasPrefix(channel, "presence-") {
			user = nil
		}
		auth, err := app.Authorize(socket, channel, user)
		if err == nil {
			err = s.grant(r.Context(), app, channel, socket)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		answer, _ := json.Marshal(auth)
		call(w, r.FormValue("callback"), answer)
	})
	mux.HandleFunc("GET /v2/send/{id}", func(w http.ResponseWriter, r *http.Request) {
		param := func(name string) string {
			value, _ := base64.StdEncoding.DecodeString(r.FormValue(name))
			return string(value)
		}
		err := s.handler.Trigger(app.ID, pusher.Event{Name: param("event"), Channels: []string{param("channel")}, Data: param("data")})
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		call(w, "Pusher.Integration.ScriptReceivers["+r.PathValue("id")+"]", []byte("null, {}"))
	})
	// The parameters go back to scripts of the client.
	mux.HandleFunc("GET /v2/jsonp/echo/{id}", func(w http.ResponseWriter, r *http.Request) {
		given := make(map[string]any)
		for name := range r.URL.Query() {
			text, _ := base64.StdEncoding.DecodeString(r.FormValue(name))
			var value any
			if json.Unmarshal(text, &value) != nil {
				value = string(text)
			}
			given[name] = value
		}
		answer, _ := json.Marshal(given)
		call(w, "Pusher.ScriptReceivers["+r.PathValue("id")+"]", append([]byte("null, "), answer...))
	})
	mux.HandleFunc("GET /v2/script_request/echo", func(w http.ResponseWriter, r *http.Request) {
		given := make(map[string]string)
		for name := range r.URL.Query() {
			if name != "receiver" {
				given[name] = r.FormValue(name)
			}
		}
		answer, _ := json.Marshal(given)
		call(w, r.FormValue("receiver"), append([]byte("null, "), answer...))
	})
	return mux
}

// call answers with JSON, or with a script that calls a function with it.
func call(w http.ResponseWriter, function string, args []byte) {
	if function == "" {
		w.Header().Set("Content-Type", "application/json")
		w.Write(args)
		return
	}
	w.Header().Set("Content-Type", "text/javascript")
	fmt.Fprintf(w, "%s(%s)", function, args)
}

// certificate returns a certificate that nobody trusts.
func certificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	of := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour), DNSNames: []string{"*.pusher.com"}}
	der, err := x509.CreateCertificate(rand.Reader, of, of, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

package pusher

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/internal/edge"
)

// maxBody is the longest body of a request to the HTTP API, in bytes. It fits a
// batch of events whose data doubles when it is quoted.
const maxBody = maxBatch * 3 * maxEventData

// apiFault is why a request to the HTTP API was refused.
type apiFault struct {
	status int
	text   string
}

func (f *apiFault) Error() string { return f.text }

func badRequest(format string, args ...any) error {
	return &apiFault{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

// call is a request to the HTTP API that the app has signed.
type call struct {
	*http.Request
	hub  *hub
	body []byte
}

// routes returns the handler of the HTTP API.
func (h *Handler) routes() *http.ServeMux {
	mux := http.NewServeMux()
	for pattern, serve := range map[string]func(*call) (any, error){
		"POST /apps/{app}/events":                             postEvents,
		"POST /apps/{app}/batch_events":                       postBatch,
		"GET /apps/{app}/channels":                            getChannels,
		"GET /apps/{app}/channels/{channel}":                  getChannel,
		"GET /apps/{app}/channels/{channel}/users":            getUsers,
		"POST /apps/{app}/users/{user}/terminate_connections": postTerminate,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			answer, err := h.authenticated(w, r, serve)
			if err != nil {
				h.answerFault(w, r, err)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(text(answer))
		})
	}
	mux.HandleFunc("GET /app/{key}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Connection", "Upgrade")
		http.Error(w, "pusher: invalid request: it does not open a WebSocket", http.StatusUpgradeRequired)
	})
	return mux
}

func (h *Handler) authenticated(w http.ResponseWriter, r *http.Request, serve func(*call) (any, error)) (any, error) {
	b := h.byID[r.PathValue("app")]
	if b == nil {
		return nil, &apiFault{http.StatusNotFound, fmt.Sprintf("unknown app %.40q", r.PathValue("app"))}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if _, long := errors.AsType[*http.MaxBytesError](err); long {
		return nil, &apiFault{http.StatusRequestEntityTooLarge, fmt.Sprintf("limit body: it is longer than %d bytes", maxBody)}
	}
	if err != nil {
		return nil, badRequest("invalid body: it cannot be read: %v", err)
	}
	if err := b.checkRequest(r, body, time.Now()); err != nil {
		return nil, &apiFault{http.StatusUnauthorized, err.Error()}
	}
	if h.stopped.Err() != nil {
		return nil, &apiFault{http.StatusServiceUnavailable, edge.ShuttingDown}
	}
	return serve(&call{r, b, body})
}

// answerFault answers a request that is refused.
func (h *Handler) answerFault(w http.ResponseWriter, r *http.Request, err error) {
	status, why := http.StatusServiceUnavailable, "unavailable: nothing has changed, try again"
	if f, ok := errors.AsType[*apiFault](err); ok {
		status, why = f.status, f.text
	} else if refusal := refusalOf(err); refusal.Status != status {
		status, why = refusal.Status, refusal.Error
	} else {
		h.log.Warn("pusher: unavailable", "path", r.URL.Path, "error", err)
	}
	http.Error(w, why, status)
}

func decodeBody(body []byte, v any) error {
	if err := json.Unmarshal(body, v); err != nil {
		return badRequest("invalid body: %v", err)
	}
	return nil
}

// triggered is an event in the form of the API.
type triggered struct {
	Name     string   `json:"name"`
	Data     *string  `json:"data"`
	Channels []string `json:"channels"`
	Channel  string   `json:"channel"`
	SocketID string   `json:"socket_id"`
	Info     string   `json:"info"`
}

func (e *triggered) event() (*Event, error) {
	if e.Data == nil {
		return nil, badRequest("invalid event %.80q: data is needed, as text", e.Name)
	}
	event := &Event{Name: e.Name, Channels: e.Channels, Data: *e.Data, Except: e.SocketID}
	if e.Channel != "" {
		event.Channels = append(event.Channels, e.Channel)
	}
	if e.SocketID != "" {
		if err := checkSocketID(e.SocketID); err != nil {
			return nil, badRequest("%v", err)
		}
	}
	switch err := checkEvent(event); {
	case errors.Is(err, presence.ErrLimit):
		return nil, &apiFault{http.StatusRequestEntityTooLarge, err.Error()}
	case err != nil:
		return nil, badRequest("%v", err)
	}
	return event, nil
}

func postEvents(c *call) (any, error) {
	var e triggered
	if err := decodeBody(c.body, &e); err != nil {
		return nil, err
	}
	event, err := e.event()
	if err == nil {
		err = c.hub.trigger(event)
	}
	if err != nil || e.Info == "" {
		return struct{}{}, err
	}
	channels := make(map[string]channelInfo)
	for _, name := range event.Channels {
		if channels[name], err = c.info(name, e.Info, false); err != nil {
			return nil, err
		}
	}
	return map[string]any{"channels": channels}, nil
}

func postBatch(c *call) (any, error) {
	var batch struct {
		Batch []triggered `json:"batch"`
	}
	if err := decodeBody(c.body, &batch); err != nil {
		return nil, err
	}
	if len(batch.Batch) == 0 || len(batch.Batch) > maxBatch {
		return nil, badRequest("invalid batch: allowed are 1 to %d events, not %d", maxBatch, len(batch.Batch))
	}
	// All are checked before any is sent.
	events := make([]*Event, len(batch.Batch))
	for i := range batch.Batch {
		event, err := batch.Batch[i].event()
		if err != nil {
			return nil, err
		}
		events[i] = event
	}
	infos, asked := make([]channelInfo, len(events)), false
	for i, event := range events {
		if err := c.hub.trigger(event); err != nil {
			return nil, err
		}
		if info := batch.Batch[i].Info; info != "" {
			var err error
			asked = true
			if infos[i], err = c.info(event.Channels[0], info, false); err != nil {
				return nil, err
			}
		}
	}
	if !asked {
		return struct{}{}, nil
	}
	return map[string]any{"batch": infos}, nil
}

// channelInfo is the requested attributes of a channel.
type channelInfo struct {
	Occupied          *bool      `json:"occupied,omitempty"`
	UserCount         *int       `json:"user_count,omitempty"`
	SubscriptionCount *int       `json:"subscription_count,omitempty"`
	Cache             *cacheInfo `json:"cache,omitempty"`
}

type cacheInfo struct {
	Data string `json:"data"`
	TTL  int    `json:"ttl"` // seconds
}

// info returns the attributes of a channel that a list of names requests.
func (c *call) info(channel, names string, occupied bool) (info channelInfo, err error) {
	subscriptions := c.hub.subscribers(channel)
	if occupied {
		info.Occupied = new(subscriptions > 0)
	}
	k, _ := kindOf(channel)
	for name := range strings.SplitSeq(names, ",") {
		switch strings.TrimSpace(name) {
		case "":
		case "user_count":
			if k != kindPresence {
				return info, badRequest("invalid channel %q: only presence channels have a user_count", channel)
			}
			ids, err := c.hub.list(c.Context(), channel)
			if err != nil {
				return info, err
			}
			info.UserCount = new(len(ids))
		case "subscription_count":
			info.SubscriptionCount = &subscriptions
		case "cache":
			if event := c.hub.kept(channel); event != nil {
				info.Cache = &cacheInfo{event.data, int(time.Until(event.until).Seconds())}
			}
		default:
			return info, badRequest("unknown info %q; allowed: user_count, subscription_count, cache", name)
		}
	}
	return info, nil
}

func getChannels(c *call) (any, error) {
	q := c.URL.Query()
	prefix, names := q.Get("filter_by_prefix"), q.Get("info")
	if strings.Contains(names, "user_count") && !strings.HasPrefix(prefix, presencePrefix) {
		return nil, badRequest("invalid info \"user_count\": only presence channels have it; add filter_by_prefix=%s", presencePrefix)
	}
	channels := make(map[string]channelInfo)
	for _, name := range c.hub.occupied(prefix) {
		info, err := c.info(name, names, false)
		if err != nil {
			return nil, err
		}
		channels[name] = info
	}
	return map[string]any{"channels": channels}, nil
}

func getChannel(c *call) (any, error) {
	name := c.PathValue("channel")
	if err := checkChannel(name); err != nil {
		return nil, badRequest("invalid channel: %v", err)
	}
	return c.info(name, c.URL.Query().Get("info"), true)
}

func getUsers(c *call) (any, error) {
	name := c.PathValue("channel")
	if err := checkChannel(name); err != nil {
		return nil, badRequest("invalid channel: %v", err)
	}
	if k, _ := kindOf(name); k != kindPresence {
		return nil, badRequest("invalid channel %q: only presence channels have users", name)
	}
	ids, err := c.hub.list(c.Context(), name)
	if err != nil {
		return nil, err
	}
	type user struct {
		ID string `json:"id"`
	}
	users := make([]user, len(ids))
	for i, id := range ids {
		users[i] = user{id}
	}
	return map[string]any{"users": users}, nil
}

func postTerminate(c *call) (any, error) {
	return struct{}{}, c.hub.h.Terminate(c.hub.ID, c.PathValue("user"))
}

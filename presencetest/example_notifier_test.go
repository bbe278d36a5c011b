package presencetest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/presencetest"
)

// poster posts notifications to a push service. Use adapters/webhook for
// retries and signatures.
type poster struct {
	url    string
	client *http.Client
}

func (p *poster) Notify(ctx context.Context, n presence.Notification) error {
	body, err := json.Marshal(n) // copies the payload, which belongs to the caller
	if err != nil {
		return fmt.Errorf("poster: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("poster: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", n.ID)
	response, err := p.client.Do(request)
	if err != nil {
		return fmt.Errorf("poster: %w", err) // wraps the context's error if that ended it
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 4096)) // so that the HTTP client can reuse the connection
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("poster: %s answered %s", p.url, response.Status)
	}
	return nil
}

func ExampleCheckNotifier() {
	err := presencetest.CheckNotifier(context.Background(), func(ctx context.Context) (presencetest.NotifierCase, error) {
		arrived := make(chan presence.Notification)
		service := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			var n presence.Notification
			if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
				return
			}
			select {
			case arrived <- n:
			case <-r.Context().Done():
			}
		}))
		context.AfterFunc(ctx, service.Close) // the context ends with the rule
		return presencetest.NotifierCase{
			Notifier: &poster{url: service.URL, client: service.Client()},
			Receive: func(ctx context.Context) (presence.Notification, error) {
				select {
				case n := <-arrived:
					return n, nil
				case <-ctx.Done():
					return presence.Notification{}, context.Cause(ctx)
				}
			},
		}, nil
	})
	fmt.Println(err)
	// Output: <nil>
}

package edge_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence/adapters/internal/edge"
)

func origins(t *testing.T, list ...string) *edge.Origins {
	t.Helper()
	f := edge.NewFaults("wire")
	o := edge.NewOrigins(f, "AllowedOrigins", list)
	require.NoError(t, f.Err())
	return o
}

func request(host, origin, site string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/presence", nil)
	r.Host = host
	if origin != "" {
		r.Header.Set("Origin", origin)
	}
	if site != "" {
		r.Header.Set("Sec-Fetch-Site", site)
	}
	return r
}

// The other columns and rows of the table are tested over HTTP by each adapter.
func TestOriginsCompareHosts(t *testing.T) {
	o := origins(t, "https://App.Example.com:443", "http://[2001:DB8::1]:80", "capacitor://localhost", "https://example.com:8443")
	for _, test := range []struct {
		host, origin string
		allowed      bool
		foreign      bool
	}{
		{"api.example.com", "https://app.example.com", true, true},
		{"api.example.com", "HTTPS://APP.EXAMPLE.COM:443", true, true},
		{"api.example.com", "https://app.example.com:444", false, false},
		{"api.example.com", "http://app.example.com", false, false},
		{"api.example.com", "https://app.example.com:80", false, false},
		{"api.example.com", "http://[2001:db8::1]", true, true},
		{"api.example.com", "capacitor://localhost", true, true},
		{"api.example.com", "https://example.com", false, false},
		{"api.example.com", "https://example.com:8443", true, true},
		{"API.example.com", "https://api.EXAMPLE.com", true, false},
		{"api.example.com:443", "https://api.example.com", true, false},
		{"api.example.com", "https://api.example.com:443", true, false},
		{"api.example.com:80", "http://api.example.com", true, false},
		{"api.example.com:80", "https://api.example.com", false, false},
		{"api.example.com:8080", "http://api.example.com:8080", true, false},
		{"api.example.com:8080", "http://api.example.com:8081", false, false},
		{"api.example.com", "http://xapi.example.com", false, false},
		{"api.example.com", "http://api.example.com.evil.com", false, false},
		{"api.example.com", "https://api.example.com/path", false, false},
		{"api.example.com", "https://user@api.example.com", false, false},
		{"api.example.com", "null", false, false},
		{"api.example.com", "*", false, false},
	} {
		foreign, refused := o.Check(request(test.host, test.origin, ""))
		require.Equal(t, test.allowed, refused == nil, "%+v", test)
		require.Equal(t, test.foreign, foreign == test.origin, "%+v", test)
	}
}

func TestRefusedOriginSaysWhatToSet(t *testing.T) {
	for text, r := range map[string]*http.Request{
		`not allowed origin "https://evil.example": add it to AllowedOrigins`:                                   request("a.example", "https://evil.example", ""),
		`not allowed origin "null": add "*" to AllowedOrigins`:                                                  request("a.example", "null", ""),
		`not allowed request of a page of another site (Sec-Fetch-Site: cross-site): add "*" to AllowedOrigins`: request("a.example", "", "cross-site"),
	} {
		_, refused := origins(t).Check(r)
		require.Equal(t, &edge.Refusal{Status: http.StatusForbidden, Text: text}, refused)
	}
}

func TestOriginsAreSchemeAndHost(t *testing.T) {
	f := edge.NewFaults("wire")
	edge.NewOrigins(f, "AllowedOrigins", []string{"https://good.example", "*"})
	require.NoError(t, f.Err())
	for _, entry := range []string{"", "example.com", "https://", "https://:443", "https://a.example/", "https://a.example/path", "https://a.example?q", "https://a.example#f", "https://u@a.example", "https://a.example:port", "null", "//a.example", "https://*", "https://*.example"} {
		f := edge.NewFaults("wire")
		edge.NewOrigins(f, "AllowedOrigins", []string{"*", entry})
		require.ErrorContains(t, f.Err(), `option "AllowedOrigins[1]"`, entry)
	}
}

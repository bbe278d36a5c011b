package pusher

import (
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
)

// documented is the app of the worked examples in Pusher's documentation.
var documented = App{ID: "3", Key: "278d425bdf160c739803", Secret: "7ad3773142a6692b25b8"}

func TestSignaturesAreThoseOfTheDocumentation(t *testing.T) {
	for text, signature := range map[string]string{
		subscribeText("1234.1234", "private-foobar", ""):                                                         "58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4",
		subscribeText("1234.1234", "presence-foobar", `{"user_id":10,"user_info":{"name":"Mr. Channels"}}`):      "31935e7d86dba64c2a90aed31fdc61869f9b22ba9d8863bba239c03ca481bc80",
		signInText("1234.1234", `{"id":"12345"}`):                                                                "4708d583dada6a56435fb8bc611c77c359a31eebde13337c16ab43aa6de336ba",
		requestText("POST", "/apps/3/events", query("ec365a775a4cd0599faeb73354201b6f", "to be ignored itself")): "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c",
	} {
		require.Equal(t, signature, documented.sign(text), text)
		require.True(t, documented.signed(documented.Key+":"+signature, text))
		for _, wrong := range []string{"", ":", signature, "x:" + signature, documented.Key + ":", documented.Key + ":" + signature[1:], documented.Key + ":" + strings.ToUpper(signature), documented.Key + ":" + signature + ":"} {
			require.False(t, documented.signed(wrong, text), wrong)
		}
	}
	a, err := documented.Authorize("1234.1234", "private-foobar", nil)
	require.NoError(t, err)
	require.Equal(t, Authorization{Auth: "278d425bdf160c739803:58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4"}, a)
	a, err = documented.SignIn("1234.1234", User{ID: "12345"})
	require.NoError(t, err)
	require.Equal(t, Authorization{Auth: "278d425bdf160c739803:4708d583dada6a56435fb8bc611c77c359a31eebde13337c16ab43aa6de336ba", UserData: `{"id":"12345"}`}, a)
}

func query(md5, signature string) url.Values {
	return url.Values{
		"auth_key": {documented.Key}, "auth_timestamp": {"1353088179"}, "auth_version": {"1.0"}, "body_md5": {md5}, "auth_signature": {signature},
	}
}

func TestOnlyWhatCanBeSignedIsSigned(t *testing.T) {
	for _, id := range []string{"", "1", "1.", ".1", "1.1.1", "a.b", "-1.1", "1.1\n", "1.18446744073709551616"} {
		_, err := documented.Authorize(id, "private-a", nil)
		require.ErrorIs(t, err, presence.ErrInvalid, id)
		_, err = documented.SignIn(id, User{ID: "ann"})
		require.ErrorIs(t, err, presence.ErrInvalid, id)
	}
	_, err := documented.Authorize("1.1", "a b", nil)
	require.ErrorIs(t, err, presence.ErrInvalid)
	_, err = documented.Authorize("1.1", "presence-a", &User{ID: "ann", Info: []byte("{")})
	require.ErrorIs(t, err, presence.ErrInvalid)
	_, err = documented.SignIn("1.1", User{ID: "ann", Info: []byte("{")})
	require.ErrorIs(t, err, presence.ErrInvalid)
}

// The request of the documentation's worked example, and what is wrong with it
// when something is changed.
func TestRequestsAreThoseOfTheDocumentation(t *testing.T) {
	const body = `{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}`
	const signature = "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c"
	when := time.Unix(1353088179, 0)
	for name, c := range map[string]struct {
		method, path, body string
		change             func(url.Values)
		later              time.Duration
		wrong              string
	}{
		"as it is":                    {},
		"at the end of its time":      {later: 600 * time.Second},
		"before its time":             {later: -600 * time.Second},
		"too late":                    {later: 601 * time.Second, wrong: "auth_timestamp"},
		"too early":                   {later: -601 * time.Second, wrong: "auth_timestamp"},
		"another method":              {method: "GET", wrong: "auth_signature"},
		"another path":                {path: "/apps/3/batch_events", wrong: "auth_signature"},
		"another body":                {body: body + " ", wrong: "body_md5"},
		"no sum of the body":          {change: func(q url.Values) { q.Del("body_md5") }, wrong: "body_md5"},
		"another key":                 {change: func(q url.Values) { q.Set("auth_key", "x") }, wrong: "auth_key"},
		"another version":             {change: func(q url.Values) { q.Set("auth_version", "2.0") }, wrong: "auth_version"},
		"no time":                     {change: func(q url.Values) { q.Del("auth_timestamp") }, wrong: "auth_timestamp"},
		"a time that is none":         {change: func(q url.Values) { q.Set("auth_timestamp", "now") }, wrong: "auth_timestamp"},
		"a time beyond all":           {change: func(q url.Values) { q.Set("auth_timestamp", "9223372036854775807") }, wrong: "auth_timestamp"},
		"a parameter added":           {change: func(q url.Values) { q.Set("info", "user_count") }, wrong: "auth_signature"},
		"a value added to a value":    {change: func(q url.Values) { q.Add("auth_version", "1.0") }, wrong: "auth_signature"},
		"no signature":                {change: func(q url.Values) { q.Del("auth_signature") }, wrong: "auth_signature"},
		"a signature of other length": {change: func(q url.Values) { q.Set("auth_signature", signature[2:]) }, wrong: "auth_signature"},
	} {
		t.Run(name, func(t *testing.T) {
			q := query("ec365a775a4cd0599faeb73354201b6f", signature)
			if c.change != nil {
				c.change(q)
			}
			or := func(s, byDefault string) string {
				if s == "" {
					return byDefault
				}
				return s
			}
			r := httptest.NewRequest(or(c.method, "POST"), or(c.path, "/apps/3/events")+"?"+q.Encode(), nil)
			err := documented.checkRequest(r, []byte(or(c.body, body)), when.Add(c.later))
			if c.wrong == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.wrong)
				require.NotContains(t, err.Error(), signature, "the right signature is not told")
			}
		})
	}
}

func TestPathsAreSignedAsWrittenOrAsSent(t *testing.T) {
	for _, signed := range []string{"/apps/3/users/a b/terminate_connections", "/apps/3/users/a%20b/terminate_connections"} {
		q := query("", "")
		q.Del("body_md5")
		q.Set("auth_signature", documented.sign(requestText("POST", signed, q)))
		r := httptest.NewRequest("POST", "/apps/3/users/a%20b/terminate_connections?"+q.Encode(), nil)
		require.NoError(t, documented.checkRequest(r, nil, time.Unix(1353088179, 0)))
	}
}

func TestKindsOfChannel(t *testing.T) {
	for name, want := range map[string]struct {
		kind   kind
		cached bool
	}{
		"news":                       {kindPublic, false},
		"cache-news":                 {kindPublic, true},
		"private-a":                  {kindPrivate, false},
		"private-cache-a":            {kindPrivate, true},
		"private-encrypted-a":        {kindEncrypted, false},
		"private-encrypted-cache-a":  {kindEncrypted, true},
		"presence-a":                 {kindPresence, false},
		"presence-cache-a":           {kindPresence, true},
		"#server-to-user-cache-user": {kindUser, false},
		"presence":                   {kindPublic, false},
	} {
		k, cached := kindOf(name)
		require.Equal(t, want.kind, k, name)
		require.Equal(t, want.cached, cached, name)
		require.NoError(t, checkChannel(name))
	}
	for _, name := range []string{"", "#server-to-user-", "#other", "a b", "a/b", "ä", "a\n", "\xff", "#server-to-user-\xff", strings.Repeat("a", 201)} {
		require.Error(t, checkChannel(name), name)
	}
	require.Equal(t, presence.Channel{Tenant: "acme", ID: "sales"}, (&App{Tenant: "acme"}).presenceChannel("presence-cache-sales"))
}

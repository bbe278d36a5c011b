package edge

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Origins decides which pages may make requests.
type Origins struct {
	all    bool
	listed map[string]bool
}

// NewOrigins reads the list of an option. An entry is "*" or
// scheme://host[:port].
func NewOrigins(f *Faults, option string, list []string) *Origins {
	o := &Origins{listed: make(map[string]bool)}
	for i, entry := range list {
		if entry == "*" {
			o.all = true
			continue
		}
		scheme, host, ok := parseOrigin(entry)
		if !ok {
			f.Add(fmt.Sprintf("%s[%d]", option, i), "%q is neither \"*\" nor scheme://host[:port]", entry)
			continue
		}
		o.listed[scheme+"://"+host] = true
	}
	return o
}

// Check refuses a request of a page that may not make it:
//
//	the request                                    no list   a list   "*"
//	page of the request's own host                 yes       yes      yes
//	page of a listed origin                        no        yes      yes
//	another page, or Origin: null                  no        no       yes
//	no Origin, and no page of another site         yes       yes      yes
//	no Origin, and Sec-Fetch-Site: cross-site or
//	same-site                                      no        no       yes
//
// It returns the origin of an allowed page of another host, for the headers
// that let the page read the answer.
func (o *Origins) Check(r *http.Request) (foreign string, refused *Refusal) {
	given := r.Header.Get("Origin")
	if given == "" {
		// For a picture or a script of another site, browsers send cookies but
		// no Origin.
		if site := r.Header.Get("Sec-Fetch-Site"); !o.all && (site == "cross-site" || site == "same-site") {
			return "", refuse(`not allowed request of a page of another site (Sec-Fetch-Site: %s): add "*" to AllowedOrigins`, site)
		}
		return "", nil
	}
	scheme, host, ok := parseOrigin(given)
	switch {
	case ok && host == normalHost(scheme, r.Host):
		return "", nil
	case o.all, ok && o.listed[scheme+"://"+host]:
		return given, nil
	case !ok:
		return "", refuse(`not allowed origin %.80q: add "*" to AllowedOrigins`, given)
	}
	return "", refuse("not allowed origin %.80q: add it to AllowedOrigins", given)
}

func refuse(format string, args ...any) *Refusal {
	return &Refusal{http.StatusForbidden, fmt.Sprintf(format, args...)}
}

// parseOrigin returns the parts of an origin as they are compared.
func parseOrigin(origin string) (scheme, host string, ok bool) {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme == "" || u.Hostname() == "" || strings.Contains(u.Host, "*") || u.User != nil || u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return "", "", false
	}
	return u.Scheme, normalHost(u.Scheme, u.Host), true // Parse lowers the scheme
}

// normalHost returns a host in lower case without the default port of a scheme.
func normalHost(scheme, host string) string {
	host = strings.ToLower(strings.TrimSuffix(host, ":"))
	switch scheme {
	case "http":
		host = strings.TrimSuffix(host, ":80")
	case "https":
		host = strings.TrimSuffix(host, ":443")
	}
	return host
}

package request

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/elnormous/contenttype"
	"github.com/getkin/kin-openapi/openapi3"
)

// EventStream is the media type of server-sent events.
const EventStream = "text/event-stream"

// offersOf returns media types in alphabetical order, with text/event-stream last: only clients that name it get it.
func offersOf(content openapi3.Content) ([]contenttype.MediaType, error) {
	names := slices.SortedFunc(maps.Keys(content), func(a, b string) int {
		if (a == EventStream) != (b == EventStream) {
			return map[bool]int{true: 1, false: -1}[a == EventStream]
		}
		return strings.Compare(a, b)
	})
	offers := make([]contenttype.MediaType, len(names))
	for i, name := range names {
		var err error
		if offers[i], err = contenttype.ParseMediaType(name); err != nil {
			return nil, err
		}
	}
	return offers, nil
}

// PreferredType returns the media type that the caller prefers among those that the operation offers (RFC 9110, section 12.5.1).
// It is the first one if Accept is absent, accepts none of them, or cannot be parsed.
func (o *Operation) PreferredType(h http.Header) string {
	if len(o.offers) == 0 {
		return ""
	}
	if accept := h["Accept"]; len(o.offers) > 1 && len(accept) > 0 {
		chosen, _, err := contenttype.GetAcceptableMediaTypeFromHeader(strings.Join(accept, ","), o.offers)
		if err == nil {
			return chosen.MIME()
		}
	}
	return o.offers[0].MIME()
}

// jsonOrHTML are the media types that PrefersHTML chooses from; the first is the default.
var jsonOrHTML = []contenttype.MediaType{
	{Type: "application", Subtype: "json", Parameters: contenttype.Parameters{}},
	{Type: "text", Subtype: "html", Parameters: contenttype.Parameters{}},
}

// PrefersHTML reports whether the caller prefers HTML to JSON, as browsers do.
func PrefersHTML(h http.Header) bool {
	accept := h["Accept"]
	if len(accept) == 0 {
		return false
	}
	chosen, _, err := contenttype.GetAcceptableMediaTypeFromHeader(strings.Join(accept, ","), jsonOrHTML)
	return err == nil && chosen.Subtype == "html"
}

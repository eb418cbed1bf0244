package notify

import (
	"net/url"
	"strings"
)

type pair struct{ key, val string }

// decodeTags reads AttrTags; a broken part is skipped.
func decodeTags(s string) []pair {
	if s == "" {
		return nil
	}
	var out []pair
	for p := range strings.SplitSeq(s, "&") {
		k, v, _ := strings.Cut(p, "=")
		k, err := url.QueryUnescape(k)
		if err != nil {
			continue
		}
		v, err = url.QueryUnescape(v)
		if err != nil {
			continue
		}
		out = append(out, pair{k, v})
	}
	return out
}

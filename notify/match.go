package notify

import "herald/store"

// Match is a rule's answer in Explain.
type Match struct {
	Rule Rule
	// Matched, or why not.
	Matched bool
	Reason  string
}

// Explain tells for each rule whether it matches an event on an object with
// those attributes, and why not.
func Explain(rules []Rule, typ EventType, key string, attrs store.Attrs) []Match {
	out := make([]Match, 0, len(rules))
	for _, r := range rules {
		m := Match{Rule: r}
		c := compileRules([]Rule{r})
		switch {
		case len(c) == 0:
			m.Reason = "the rule is broken"
		case c[0].events&typ == 0:
			m.Reason = "event " + typ.Name() + " is not subscribed"
		case !c[0].key.match(key):
			m.Reason = "the key does not match the filter"
		case !c[0].attrs.match(attrs):
			m.Reason = "metadata or tags do not match the filter"
		default:
			m.Matched = true
		}
		out = append(out, m)
	}
	return out
}

// group is the rules of one topic that a change matches.
type group struct {
	typ         EventType
	arn, record string       // of the topic: see compiledRule
	owner       string       // likewise, if known
	rules       []intentRule // must not be changed
}

// matchNames is matchRules for all names of a change.
func matchNames(out []group, rules []compiledRule, c *Change) []group {
	out = matchRules(out, rules, c.Type, c.Key, c.Attrs)
	if c.Also != 0 {
		out = matchRules(out, rules, c.Also, c.Key, c.Attrs)
	}
	return out
}

// matchRules appends the matching rules, grouped by topic. Attributes that are
// not known yet (nil) leave their filters to be held against the outcome.
func matchRules(out []group, rules []compiledRule, typ EventType, key string, attrs store.Attrs) []group {
	first := len(out)
	for i := range rules {
		r := &rules[i]
		if !r.match(typ, key) {
			continue
		}
		var later attrFilter
		if !r.attrs.isZero() {
			if attrs == nil {
				later = r.attrs
			} else if !r.attrs.match(attrs) {
				continue
			}
		}
		if n := len(out); n > first && out[n-1].arn == r.arn && out[n-1].owner == r.owner {
			g := &out[n-1]
			g.rules = append(g.rules, intentRule{r.id, later})
			continue
		}
		g := group{typ: typ, arn: r.arn, record: r.record, owner: r.owner, rules: r.alone}
		if !later.isZero() {
			g.rules = []intentRule{{r.id, later}}
		}
		out = append(out, g)
	}
	return out
}

// shardOf chooses a shard: equal names, equal shard (FNV-1a).
func shardOf(name string, shards int) int {
	if shards <= 1 {
		return 0
	}
	h := uint32(2166136261)
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return int(h % uint32(shards))
}

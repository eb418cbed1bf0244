package notify

import (
	"sync"
	"sync/atomic"

	"herald/store"
)

// maxRuleSets bounds the cache of compiled rules; beyond it the cache starts
// anew.
const maxRuleSets = 4096

// ruleCache keeps the compiled rules of buckets.
type ruleCache struct {
	sets sync.Map // bucket id -> *ruleSet
	n    atomic.Int32
}

// ruleSet is a bucket's compiled rules; it is never changed.
type ruleSet struct {
	version uint64
	attr    string
	rules   []compiledRule
}

// of returns the rules of a bucket.
func (c *ruleCache) of(b *store.BucketInfo) ([]compiledRule, error) {
	attr := b.Attrs[AttrNotification]
	if attr == "" {
		return nil, nil
	}
	if v, ok := c.sets.Load(b.ID); ok {
		// The text too: a version alone could be that of another record.
		if set := v.(*ruleSet); set.version == b.Version() && set.attr == attr {
			return set.rules, nil
		}
	}
	rules, err := ParseRules(attr)
	if err != nil {
		return nil, err
	}
	set := &ruleSet{version: b.Version(), attr: attr, rules: compileRules(rules)}
	if _, had := c.sets.Swap(b.ID, set); !had && c.n.Add(1) > maxRuleSets {
		c.sets.Clear()
		c.n.Store(0)
	}
	return set.rules, nil
}

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
	arn, tenant, topic string
	rules              []intentRule
}

// matchRules groups the matching rules by topic. Attributes that are not known
// yet (nil) leave their filters to be held against the outcome.
func matchRules(rules []compiledRule, typ EventType, key string, attrs store.Attrs) []group {
	var out []group
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
		if len(out) == 0 || out[len(out)-1].arn != r.arn {
			out = append(out, group{arn: r.arn, tenant: r.tenant, topic: r.topic})
		}
		g := &out[len(out)-1]
		g.rules = append(g.rules, intentRule{r.id, later})
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

package notify

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// allowed is one element of Outbound's list.
type allowed struct {
	prefix netip.Prefix // addresses; else
	kind   string       // of addresses; else
	host   string       // a name, ".name" for all below it, "*" for everything
	port   string       // "": every
}

// The kinds of addresses that are not of the public Internet, as errors name
// them.
const (
	kindLoopback = "a loopback address"
	kindPrivate  = "a private address"
	kindLink     = "a link-local address"
	kindMetadata = "an address of cloud metadata"
	kindMany     = "a multicast or broadcast address"
	kindNone     = "an unspecified address"
	kindReserved = "a reserved address"
)

// reservedAddresses are those that are not of the public Internet; the first
// that fits counts. Of IPv6 all that is not below 2000::/3 is reserved besides.
// It is never written.
var reservedAddresses = [...]struct {
	prefix netip.Prefix
	kind   string
}{
	{netip.MustParsePrefix("169.254.169.254/32"), kindMetadata}, // AWS, Google, Azure, OpenStack, ...
	{netip.MustParsePrefix("169.254.170.2/32"), kindMetadata},   // AWS, of containers
	{netip.MustParsePrefix("100.100.100.200/32"), kindMetadata}, // Alibaba
	{netip.MustParsePrefix("168.63.129.16/32"), kindMetadata},   // Azure
	{netip.MustParsePrefix("192.0.0.192/32"), kindMetadata},     // Oracle
	{netip.MustParsePrefix("fd00:ec2::254/128"), kindMetadata},  // AWS
	{netip.MustParsePrefix("fd20:ce::254/128"), kindMetadata},   // Google
	{netip.MustParsePrefix("0.0.0.0/8"), kindNone},
	{netip.MustParsePrefix("10.0.0.0/8"), kindPrivate},
	{netip.MustParsePrefix("100.64.0.0/10"), kindPrivate}, // RFC 6598
	{netip.MustParsePrefix("127.0.0.0/8"), kindLoopback},
	{netip.MustParsePrefix("169.254.0.0/16"), kindLink},
	{netip.MustParsePrefix("172.16.0.0/12"), kindPrivate},
	{netip.MustParsePrefix("192.0.0.0/24"), kindReserved},
	{netip.MustParsePrefix("192.0.2.0/24"), kindReserved},
	{netip.MustParsePrefix("192.88.99.0/24"), kindReserved}, // 6to4 relays
	{netip.MustParsePrefix("192.168.0.0/16"), kindPrivate},
	{netip.MustParsePrefix("198.18.0.0/15"), kindReserved},
	{netip.MustParsePrefix("198.51.100.0/24"), kindReserved},
	{netip.MustParsePrefix("203.0.113.0/24"), kindReserved},
	{netip.MustParsePrefix("224.0.0.0/4"), kindMany},
	{netip.MustParsePrefix("255.255.255.255/32"), kindMany},
	{netip.MustParsePrefix("240.0.0.0/4"), kindReserved},
	{netip.MustParsePrefix("::/128"), kindNone},
	{netip.MustParsePrefix("::1/128"), kindLoopback},
	{netip.MustParsePrefix("fc00::/7"), kindPrivate},
	{netip.MustParsePrefix("fec0::/10"), kindPrivate}, // RFC 3879
	{netip.MustParsePrefix("fe80::/10"), kindLink},
	{netip.MustParsePrefix("ff00::/8"), kindMany},
	{netip.MustParsePrefix("2001::/23"), kindReserved}, // Teredo and the like
	{netip.MustParsePrefix("2001:db8::/32"), kindReserved},
	{netip.MustParsePrefix("3fff::/20"), kindReserved},
}

var (
	globalUnicast = netip.MustParsePrefix("2000::/3")
	// Addresses that stand for one of IPv4, which is at byte embedAt of them.
	nat64       = netip.MustParsePrefix("64:ff9b::/96")
	compatible  = netip.MustParsePrefix("::/96")
	sixToFour   = netip.MustParsePrefix("2002::/16")
	embeddings  = [...]netip.Prefix{nat64, compatible, sixToFour}
	embeddingAt = [...]int{12, 12, 2}
)

// addressKind is "" for an address of the public Internet, else what it is.
func addressKind(a netip.Addr) string {
	a = a.WithZone("").Unmap()
	for _, r := range reservedAddresses {
		if r.prefix.Contains(a) {
			return r.kind
		}
	}
	if a.Is4() {
		return ""
	}
	for i, p := range embeddings {
		if p.Contains(a) {
			b := a.As16()
			return addressKind(netip.AddrFrom4([4]byte(b[embeddingAt[i]:])))
		}
	}
	if !globalUnicast.Contains(a) {
		return kindReserved
	}
	return ""
}

// parseAddr reads an address, with or without a zone.
func parseAddr(s string) (netip.Addr, error) { return netip.ParseAddr(s) }

// match tells whether a connection is one that the element allows. kind is the
// address's.
func (a *allowed) match(host string, addr netip.Addr, kind, port string) bool {
	if a.port != "" && a.port != port {
		return false
	}
	switch {
	case a.kind != "":
		return a.kind == kind
	case a.host != "":
		return a.matchHost(strings.ToLower(strings.TrimSuffix(host, ".")))
	}
	return a.prefix.Contains(addr.WithZone("").Unmap())
}

func (a *allowed) matchHost(host string) bool {
	if strings.HasPrefix(a.host, ".") {
		return strings.HasSuffix(host, a.host)
	}
	return a.host == "*" || a.host == host
}

// parseAllowed reads one element; see ParseOutbound.
func parseAllowed(s string) (allowed, error) {
	text := strings.ToLower(strings.TrimSpace(s))
	bad := fmt.Errorf("notify.endpoint_allow: %q is no address, network or host name", s)
	var a allowed
	if p, err := parsePrefix(text); err == nil { // also one of IPv6, which has colons
		a.prefix = p
		return a, nil
	}
	if i := strings.LastIndexByte(text, ':'); i >= 0 && !strings.HasSuffix(text, "]") {
		a.port, text = text[i+1:], text[:i]
		if n, err := strconv.ParseUint(a.port, 10, 16); err != nil || n == 0 || a.port[0] == '0' {
			return a, bad
		}
	}
	if p, err := parsePrefix(text); err == nil {
		if p.Addr().Is6() && !strings.HasPrefix(s, "[") {
			return a, bad // of what is the port?
		}
		a.prefix = p
		return a, nil
	}
	switch text {
	case "loopback":
		a.kind = kindLoopback
		return a, nil
	case "private":
		a.kind = kindPrivate
		return a, nil
	case "*":
		a.host = text
		return a, nil
	}
	a.host = strings.TrimSuffix(text, ".")
	name := a.host
	if rest, ok := strings.CutPrefix(name, "*."); ok {
		a.host, name = "."+rest, rest
	}
	if !hostName(name) {
		return a, bad
	}
	return a, nil
}

// parsePrefix reads an address or a network, brackets around it or not.
func parsePrefix(s string) (netip.Prefix, error) {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if inner, ok = strings.CutSuffix(inner, "]"); !ok {
			return netip.Prefix{}, url.InvalidHostError(s)
		}
		s = inner
	}
	if a, err := netip.ParseAddr(s); err == nil {
		a = a.WithZone("").Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, err
	}
	if a := p.Addr(); a.Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, url.InvalidHostError(s)
		}
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}

// hostName: labels of letters, digits, '-' and '_', the last of which is no
// number, as it is in a malformed address.
func hostName(s string) bool {
	labels := strings.Split(s, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	last := labels[len(labels)-1]
	return len(s) <= 253 && slices.ContainsFunc([]byte(last), func(c byte) bool { return c < '0' || c > '9' })
}

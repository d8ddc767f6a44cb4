package webhook

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
)

// special lists the ranges in the IANA registries of special-purpose addresses that are not on the public internet and that no method
// of netip.Addr covers.
var special = parsePrefixes(
	"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
	"::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "3fff::/20", "5f00::/16", "fec0::/10",
)

// embedding lists the ranges of IPv6 addresses that contain an IPv4 address, and the index of its first byte.
var embedding = []struct {
	prefix netip.Prefix
	at     int
}{
	{netip.MustParsePrefix("64:ff9b::/96"), 12}, // NAT64, RFC 6052
	{netip.MustParsePrefix("2002::/16"), 2},     // 6to4, RFC 3056
}

func parsePrefixes(all ...string) []netip.Prefix {
	prefixes := make([]netip.Prefix, len(all))
	for i, one := range all {
		prefixes[i] = netip.MustParsePrefix(one)
	}
	return prefixes
}

// public reports whether an address is on the public internet. For an IPv6 address that contains an IPv4 address, it reports that of
// the IPv4 address.
func public(addr netip.Addr) bool {
	addr = addr.Unmap()
	for _, e := range embedding {
		if e.prefix.Contains(addr) {
			bytes := addr.As16()
			return public(netip.AddrFrom4([4]byte(bytes[e.at : e.at+4])))
		}
	}
	if !addr.IsGlobalUnicast() || addr.IsPrivate() || addr.Zone() != "" {
		return false
	}
	for _, p := range special {
		if p.Contains(addr) {
			return false
		}
	}
	return true
}

// errAddress means that an address may not be called.
var errAddress = errors.New("the address is not a public one")

// controlPublic is the Control of a net.Dialer that connects to public addresses only. It is called after names are resolved, with
// the address that is about to be connected to, so that a name cannot lead anywhere else.
func controlPublic(_, address string, _ syscall.RawConn) error {
	target, err := netip.ParseAddrPort(address)
	if err != nil || !public(target.Addr()) {
		return errAddress
	}
	return nil
}

// checkURL returns an error if nothing may be sent to a URL. The error's text follows the name of a field. Host names are not resolved:
// controlPublic checks the address of each connection.
func checkURL(text string, allowPrivate bool) error {
	u, err := url.Parse(text)
	switch {
	case len(text) > MaxURL:
		return fmt.Errorf("must have at most %d characters", MaxURL)
	case err != nil || u.Host == "" || u.Opaque != "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("must be a URL such as https://example.com/hook")
	case u.Scheme != "https" && !allowPrivate:
		return errors.New("must begin with https://")
	case u.User != nil:
		return errors.New("must not have a user or password; the signature shows who sends")
	case u.Fragment != "":
		return errors.New("must not have a fragment")
	case u.Hostname() == "" || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }):
		return errors.New("must be a URL in ASCII, with a host")
	case allowPrivate:
		return nil
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return errPrivateURL
	}
	addr, err := netip.ParseAddr(host)
	if ip := net.ParseIP(host); err == nil && !public(addr) || err != nil && ip != nil {
		return errPrivateURL
	}
	return nil
}

var errPrivateURL = errors.New("must not lead to a private, loopback or other special address")

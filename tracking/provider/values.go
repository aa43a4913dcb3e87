package provider

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"time"
)

// Time reads RFC 3339 with any fraction and zone. false says that text is none.
func Time(text []byte) (time.Time, bool) {
	if text == nil {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339Nano, string(text))
	return t, err == nil
}

// IP is the zero Addr for what is no address. A zone (fe80::1%eth0) has no meaning
// beyond the machine that wrote it, and inet can't hold it.
func IP(text []byte) netip.Addr {
	if text == nil {
		return netip.Addr{}
	}
	ip, err := netip.ParseAddr(string(text))
	if err != nil {
		return netip.Addr{}
	}
	return ip.WithZone("")
}

// NaturalKey is an event id made of what tells an event apart from all others of its
// email, for providers that give none: events that agree in all of the fields are one
// event. It is the first 128 bits of a SHA-256, in hexadecimal digits.
func NaturalKey(fields ...[]byte) string {
	text := make([]byte, 0, 512) // that most need
	for _, f := range fields {
		// With its length, no field can run into the next.
		text = append(binary.BigEndian.AppendUint64(text, uint64(len(f))), f...)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

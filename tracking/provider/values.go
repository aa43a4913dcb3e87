package provider

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
)

// IP parses an address, and returns the zero Addr for anything else. The zone
// (fe80::1%eth0) is removed: it means nothing outside the machine that wrote it, and inet
// cannot hold it.
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

// NaturalKey builds an event id from the fields that distinguish an event from all others
// of its email, for providers that give none: events that agree in all fields are one
// event. It is the first 128 bits of a SHA-256, in hexadecimal.
func NaturalKey(fields ...[]byte) string {
	text := make([]byte, 0, 512) // enough for most
	for _, f := range fields {
		// The length prefix keeps fields from running into each other.
		text = append(binary.BigEndian.AppendUint64(text, uint64(len(f))), f...)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

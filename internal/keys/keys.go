// Package keys names everything that a lock has in Redis, byte for byte as
// Redisson does, and tells in which slot of a cluster a key lives.
package keys

import "strings"

// Slots is the number of hash slots of a Redis Cluster.
const Slots = 16384

// MaxName is the longest lock name in bytes, after the name mapper.
const MaxName = 512

// Channel names the channel on which a release of the lock is told.
func Channel(name string) string { return companion("redisson_lock__channel", name) }

// Queue names the list of a fair lock's waiters, the next one first.
func Queue(name string) string { return companion("redisson_lock_queue", name) }

// Timeout names the sorted set of the moments until which a fair lock's waiters keep
// their places.
func Timeout(name string) string { return companion("redisson_lock_timeout", name) }

// companion names a key or channel beside the lock's own key. Braces keep it
// in the lock's slot; a name that has a brace already is trusted to bring its
// own hash tag. The test is Redisson's, to the letter: it asks only whether
// there is a "{", so a few odd names end in two slots (see OneSlot).
func companion(prefix, name string) string {
	if strings.Contains(name, "{") {
		return prefix + ":" + name
	}
	return prefix + ":{" + name + "}"
}

// OneSlot tells whether a lock of this name keeps its key and its companions
// in one slot. "a}b", "a{b" and "a{}b" do not, and cannot be locked on a cluster.
func OneSlot(name string) bool { return Slot(name) == Slot(Channel(name)) }

// Slot tells the hash slot of a key: CRC16 of its hash tag, which is what
// stands between the first "{" and the next "}", or of the whole key if there
// is no such tag or it is empty.
// https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags
func Slot(key string) int {
	if open := strings.IndexByte(key, '{'); open >= 0 {
		if length := strings.IndexByte(key[open+1:], '}'); length > 0 {
			key = key[open+1 : open+1+length]
		}
	}
	return int(crc16(key)) % Slots
}

// crc16 is CRC-16/XMODEM: polynomial 0x1021, initial value 0.
func crc16(s string) uint16 {
	var crc uint16
	for i := 0; i < len(s); i++ {
		crc = crc<<8 ^ crcTable[byte(crc>>8)^s[i]]
	}
	return crc
}

var crcTable = func() (table [256]uint16) {
	for i := range table {
		crc := uint16(i) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
		table[i] = crc
	}
	return table
}()

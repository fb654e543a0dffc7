// Package seal keeps ekiden's mail unreadable at rest: a Root key that lives in memory only, a Ring of data keys that
// seal every record before it reaches the disk, and a Vault that holds what a node's disk may know of the root key.
//
// The disk holds the root key only wrapped: under the recovery code, and under the key of a provider the operator
// chose. It must never write, log or return in an error a key, a code or a plaintext; it must never use a nonce twice
// under one data key; and it must never hand out a byte of a record whose tag does not verify. It knows no mail and
// opens no database: what a record is and where it lies is the business of its callers, who bind a record to its
// place by the associated data.
//
// Key tree (docs: replication protocol, memory-only keys):
//
//	recovery code ─Argon2id─┐
//	exec/file key ──HKDF────┼─ wraps ─▶ Root ─HKDF "queue"─▶ wraps data keys ─▶ records (AES-256-GCM)
//	kernel keyring (RAM) ───┘             ├──HKDF "index"─▶ HMAC of addresses and domains in store keys
//	                                      └──HKDF "box …"─▶ what the members agree on (Box)
//
// Read Ring first (the hot path), then Vault (a node's life from first start to unseal).
package seal

// One side of a conversation through @signalapp/libsignal-client, by its public interface (its TypeScript declarations).
// What differs between the benches is where session records are kept: as they are, or as bytes behind a vault.
import {
  CiphertextMessageType,
  IdentityChange,
  IdentityKeyPair,
  IdentityKeyStore,
  KEMKeyPair,
  KyberPreKeyRecord,
  KyberPreKeyStore,
  PreKeyBundle,
  PreKeyRecord,
  PreKeySignalMessage,
  PreKeyStore,
  PrivateKey,
  processPreKeyBundle,
  ProtocolAddress,
  SessionRecord,
  SessionStore,
  signalDecrypt,
  signalDecryptPreKey,
  signalEncrypt,
  SignalMessage,
  SignedPreKeyRecord,
  SignedPreKeyStore,
} from '@signalapp/libsignal-client'

const DEVICE = 1
const ID = { preKey: 1, signed: 2, kyber: 3 }

/** Session records by address, as handles. The fastest store that the interface allows: nothing is copied. */
export class RecordsInMemory extends SessionStore {
  #records = new Map()
  async saveSession(name, record) {
    this.#records.set(name.toString(), record)
  }
  async getSession(name) {
    return this.#records.get(name.toString()) ?? null
  }
  async getExistingSessions(addresses) {
    return addresses.map((address) => this.#records.get(address.toString()))
  }
}

/** Session records as bytes, written and read at every step. */
export class RecordsInVault extends SessionStore {
  #vault
  /** @param {{ write(name: string, bytes: Uint8Array): void, read(name: string): Uint8Array | undefined }} vault */
  constructor(vault) {
    super()
    this.#vault = vault
  }
  async saveSession(name, record) {
    this.#vault.write(name.toString(), record.serialize())
  }
  async getSession(name) {
    const bytes = this.#vault.read(name.toString())
    return bytes === undefined ? null : SessionRecord.deserialize(bytes)
  }
  async getExistingSessions(addresses) {
    return Promise.all(addresses.map((address) => this.getSession(address)))
  }
}

class Identities extends IdentityKeyStore {
  #own
  #known = new Map()
  constructor(own) {
    super()
    this.#own = own
  }
  async getIdentityKey() {
    return this.#own.privateKey
  }
  async getIdentityKeyPair() {
    return this.#own
  }
  async getLocalRegistrationId() {
    return 1
  }
  async isTrustedIdentity() {
    return true
  }
  async saveIdentity(name, key) {
    this.#known.set(name.toString(), key)
    return IdentityChange.NewOrUnchanged
  }
  async getIdentity(name) {
    return this.#known.get(name.toString()) ?? null
  }
}

/** Prekeys that are looked up by id. They stay: making new ones is not what is measured. */
class PreKeys extends PreKeyStore {
  #record
  constructor(record) {
    super()
    this.#record = record
  }
  async savePreKey() {}
  async getPreKey() {
    return this.#record
  }
  async removePreKey() {}
}

class SignedPreKeys extends SignedPreKeyStore {
  #record
  constructor(record) {
    super()
    this.#record = record
  }
  async saveSignedPreKey() {}
  async getSignedPreKey() {
    return this.#record
  }
}

class KyberPreKeys extends KyberPreKeyStore {
  #record
  constructor(record) {
    super()
    this.#record = record
  }
  async saveKyberPreKey() {}
  async getKyberPreKey() {
    return this.#record
  }
  async markKyberPreKeyUsed() {}
}

export class Party {
  /** Replaced to forget all sessions. */
  sessions
  #address
  #identity = IdentityKeyPair.generate()
  #identities = new Identities(this.#identity)
  #preKeys
  #signedPreKeys
  #kyberPreKeys
  /** What a peer is given to start a session with. */
  bundle

  /** @param {string} name @param {SessionStore} sessions */
  constructor(name, sessions) {
    this.sessions = sessions
    this.#address = ProtocolAddress.new(name, DEVICE)
    const oneTime = PrivateKey.generate()
    const signed = PrivateKey.generate()
    const kyber = KEMKeyPair.generate()
    const { privateKey, publicKey } = this.#identity
    const signedSignature = privateKey.sign(signed.getPublicKey().serialize())
    const kyberSignature = privateKey.sign(kyber.getPublicKey().serialize())
    this.#preKeys = new PreKeys(PreKeyRecord.new(ID.preKey, oneTime.getPublicKey(), oneTime))
    this.#signedPreKeys = new SignedPreKeys(SignedPreKeyRecord.new(ID.signed, Date.now(), signed.getPublicKey(), signed, signedSignature))
    this.#kyberPreKeys = new KyberPreKeys(KyberPreKeyRecord.new(ID.kyber, Date.now(), kyber, kyberSignature))
    this.bundle = PreKeyBundle.new(
      1,
      DEVICE,
      ID.preKey,
      oneTime.getPublicKey(),
      ID.signed,
      signed.getPublicKey(),
      signedSignature,
      publicKey,
      ID.kyber,
      kyber.getPublicKey(),
      kyberSignature,
    )
  }

  async start(peer) {
    await processPreKeyBundle(peer.bundle, peer.#address, this.#address, this.sessions, this.#identities)
  }

  /** @returns {Promise<{ type: number, bytes: Uint8Array }>} what would travel */
  async seal(peer, plaintext) {
    const message = await signalEncrypt(plaintext, peer.#address, this.#address, this.sessions, this.#identities)
    return { type: message.type(), bytes: message.serialize() }
  }

  /** @returns {Promise<Uint8Array>} the plaintext */
  async open(peer, { type, bytes }) {
    if (type !== CiphertextMessageType.PreKey)
      return signalDecrypt(SignalMessage.deserialize(bytes), peer.#address, this.#address, this.sessions, this.#identities)
    return signalDecryptPreKey(
      PreKeySignalMessage.deserialize(bytes),
      peer.#address,
      this.#address,
      this.sessions,
      this.#identities,
      this.#preKeys,
      this.#signedPreKeys,
      this.#kyberPreKeys,
    )
  }
}

/** A session past its first reply, as far as the two are concerned. */
export async function converse(a, b, plaintext) {
  await a.start(b)
  await b.open(a, await a.seal(b, plaintext))
  await a.open(b, await b.seal(a, plaintext))
}

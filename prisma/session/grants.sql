-- Rights of session-svc's login role, one line per table, no more than its code uses. Applied after every
-- migration; idempotent. SELECT … FOR UPDATE needs UPDATE.
GRANT USAGE ON SCHEMA session TO :role;

-- A replaced identity key loses its secret; nothing else of the row ever changes.
GRANT SELECT, INSERT, UPDATE (sealed, succession, retired_at) ON session.identity_key TO :role;
GRANT SELECT, INSERT ON session.identity_renewal TO :role;
GRANT SELECT, INSERT ON session.certificate TO :role;
GRANT SELECT, INSERT, UPDATE ON session.peer TO :role;
GRANT SELECT, INSERT ON session.peer_certificate TO :role;
GRANT SELECT, INSERT, UPDATE, DELETE ON session.prekey TO :role;
GRANT SELECT, INSERT, UPDATE ON session.session TO :role;
GRANT SELECT, INSERT, DELETE ON session.handshake_seen TO :role;
GRANT SELECT, INSERT, UPDATE, DELETE ON session.sealed_envelope TO :role;
GRANT SELECT, INSERT, UPDATE, DELETE ON session.opened_envelope TO :role;
GRANT SELECT, INSERT, UPDATE ON session.bundle_quota TO :role;
GRANT SELECT, INSERT, UPDATE ON session.data_key TO :role;
GRANT SELECT, INSERT, UPDATE ON session.fence TO :role;
GRANT SELECT, INSERT, UPDATE, DELETE ON session.prefetched_bundle TO :role;
GRANT SELECT, INSERT, UPDATE, DELETE ON session.audit_outbox TO :role;

-- UPDATE is for setval: after a restore both sequences jump ahead.
GRANT SELECT, USAGE, UPDATE ON SEQUENCE session.prekey_id_seq TO :role;
GRANT SELECT, USAGE, UPDATE ON SEQUENCE session.generation_seq TO :role;
GRANT USAGE ON SEQUENCE session.audit_outbox_id_seq TO :role;

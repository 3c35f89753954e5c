-- Rights of relay-svc's login role, one line per table, no more than its code uses. Applied after every
-- migration; idempotent. SELECT … FOR UPDATE needs UPDATE.
GRANT USAGE ON SCHEMA relay TO :role;

GRANT SELECT, INSERT, UPDATE ON relay.peer TO :role;
GRANT SELECT, INSERT, DELETE ON relay.peer_identity TO :role;
GRANT SELECT, INSERT, UPDATE, DELETE ON relay.peer_address TO :role;
GRANT SELECT, INSERT, UPDATE, DELETE ON relay.outbound TO :role;
GRANT SELECT, INSERT, UPDATE, DELETE ON relay.inbound TO :role;
GRANT SELECT, INSERT, UPDATE, DELETE ON relay.audit_outbox TO :role;

GRANT USAGE ON SEQUENCE relay.outbound_id_seq TO :role;
GRANT USAGE ON SEQUENCE relay.inbound_id_seq TO :role;
GRANT USAGE ON SEQUENCE relay.audit_outbox_id_seq TO :role;

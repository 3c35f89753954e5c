# syntax=docker/dockerfile:1
# One image for the four services, the migrations and the secrets of a new fleet; the command chooses.
FROM node:24-bookworm-slim AS build
WORKDIR /app
ENV CI=true CHECKPOINT_DISABLE=1 NX_NO_CLOUD=true
COPY package.json package-lock.json .npmrc nx.json tsconfig.json tsconfig.base.json ./
COPY tools/no-native tools/no-native
COPY apps/invoice-svc/package.json apps/invoice-svc/
COPY apps/session-svc/package.json apps/session-svc/
COPY apps/relay-svc/package.json apps/relay-svc/
COPY apps/audit-svc/package.json apps/audit-svc/
COPY apps/cli/package.json apps/cli/
COPY apps/cli/bin apps/cli/bin
COPY libs libs
RUN npm ci
COPY . .
# The image brings Node 24, so the copy from the lockfile is dropped together with what only development needs.
RUN npm run build && npm prune --omit=dev --omit=optional && rm -rf .cache

FROM node:24-bookworm-slim
ENV NODE_ENV=production
WORKDIR /app
COPY --from=build /app/package.json /app/package.json
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/apps apps
COPY --from=build /app/libs libs
COPY --from=build /app/prisma prisma
COPY --from=build /app/tools tools
# Named volumes take owner and mode from these folders: the services run as uid 1000 and read files of mode 0400.
RUN mkdir -p /run/tallystick/secrets /run/tallystick/nats /run/tallystick/postgres && chown -R node:node /run/tallystick && chmod 700 /run/tallystick/secrets
USER node
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=6 \
  CMD ["node", "-e", "fetch('http://127.0.0.1:9464/health/ready').then(r=>process.exit(r.ok?0:1),()=>process.exit(1))"]
CMD ["node", "apps/invoice-svc/dist/main.js"]

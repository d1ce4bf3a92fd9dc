"""``people forget``: erases a person's name, and where from; the ids that stay mean nothing by themselves."""

from consent_gateway.consent.origins import Origins
from consent_gateway.people import People
from consent_gateway.settings import Settings
from consent_gateway.web.sessions import end_of
from shared import mongo


async def forget(settings: Settings, person_id: str) -> bool:
    """Erase what names the person, and end the person's console sessions; False when nothing was known.

    Raises:
        PyMongoError: MongoDB can't be reached.
    """
    database = mongo.connect(settings.mongo)
    try:
        forgotten = [
            await People(database).forget(person_id),
            await Origins(database).forget(person_id),
            await end_of(database, person_id),
        ]
        return any(forgotten)
    finally:
        await mongo.close(database)

"""Common given names, family names and cities in several alphabets, each with its Latin form for addresses.

Sample people are put together from these lists at random; whoever bears such a name does so by chance.
"""

from __future__ import annotations

from dataclasses import dataclass

Name = tuple[str, str]
"""The name as it is written, and its Latin form in lower case."""


@dataclass(frozen=True, slots=True)
class Population:
    """The people of one language: `weight` is how many of a hundred profiles they make up."""

    language: str
    weight: int
    given: tuple[Name, ...]
    family: tuple[Name, ...]
    cities: tuple[tuple[str, str], ...]
    """City and country code."""


def _names(text: str) -> tuple[Name, ...]:
    """`Written=latin` pairs; a name of plain ASCII letters needs no Latin form."""
    pairs = (word.partition("=") for word in text.split())
    return tuple((written, latin or written.lower()) for written, _, latin in pairs)


POPULATIONS = (
    Population(
        "en",
        26,
        _names("Oliver Amelia George Isla Harry Ava Noah Emily Jack Sophia Leo Grace Arthur Freya Oscar Ivy Siân=sian"),
        _names("Smith Jones Taylor Brown Walker Wright Robinson Green Hall Wood Clarke Hughes O'Neill=oneill Baker"),
        (("London", "GB"), ("Leeds", "GB"), ("Dublin", "IE"), ("Seattle", "US"), ("Toronto", "CA")),
    ),
    Population(
        "de",
        16,
        _names("Jürgen=juergen Käthe=kaethe Lukas Mia Felix Emma Jonas Hannah Björn=bjoern Sören=soeren Lena Paul"),
        _names(
            "Müller=mueller Schäfer=schaefer Weiß=weiss Schmidt Fischer"
            " Weber Meyer Wagner Köhler=koehler Krüger=krueger"
        ),
        (("München", "DE"), ("Köln", "DE"), ("Zürich", "CH"), ("Wien", "AT"), ("Berlin", "DE")),
    ),
    Population(
        "tr",
        14,
        _names(
            "İrem=irem Çağla=cagla Oğuz=oguz Işıl=isil Şükrü=sukru Gökçe=gokce Ayşe=ayse Mehmet Zeynep Emre Ömer=omer"
        ),
        _names("Yılmaz=yilmaz Şahin=sahin Öztürk=ozturk Çelik=celik Doğan=dogan Aydın=aydin Yıldız=yildiz Kaya Demir"),
        (("İstanbul", "TR"), ("Ankara", "TR"), ("İzmir", "TR"), ("Diyarbakır", "TR")),
    ),
    Population(
        "kk",
        10,
        _names(
            "Айгерім=aigerim Әлия=aliya Нұрлан=nurlan Ерлан=yerlan Жанар=zhanar"
            " Қайрат=kairat Гүлнәр=gulnar Бекзат=bekzat"
        ),
        _names(
            "Серікбаев=serikbayev Нұрғалиев=nurgaliyev Әбдіров=abdirov"
            " Қасымов=kassymov Оспанова=ospanova Тілеуов=tileuov"
        ),
        (("Алматы", "KZ"), ("Астана", "KZ"), ("Шымкент", "KZ"), ("Қарағанды", "KZ")),
    ),
    Population(
        "el",
        9,
        _names(
            "Γιώργος=giorgos Μαρία=maria Δημήτρης=dimitris Ελένη=eleni Κώστας=kostas Αικατερίνη=aikaterini Νίκος=nikos"
        ),
        _names("Παπαδόπουλος=papadopoulos Γεωργίου=georgiou Οικονόμου=oikonomou Βασιλείου=vasileiou Νικολάου=nikolaou"),
        (("Αθήνα", "GR"), ("Θεσσαλονίκη", "GR"), ("Πάτρα", "GR"), ("Λευκωσία", "CY")),
    ),
    Population(
        "ja",
        9,
        _names("陽菜=hina 蓮=ren 結衣=yui 大翔=hiroto さくら=sakura 翔太=shota 美咲=misaki 健一=kenichi"),
        _names("佐藤=sato 鈴木=suzuki 高橋=takahashi 田中=tanaka 渡辺=watanabe 山本=yamamoto 中村=nakamura"),
        (("東京", "JP"), ("大阪", "JP"), ("札幌", "JP"), ("福岡", "JP")),
    ),
    Population(
        "ar",
        8,
        _names("محمد=mohammed فاطمة=fatima أحمد=ahmed عائشة=aisha يوسف=yousef مريم=maryam خالد=khaled ليلى=layla"),
        _names("الحداد=alhaddad النجار=alnajjar الخطيب=alkhatib منصور=mansour سليمان=suleiman حسن=hassan"),
        (("القاهرة", "EG"), ("دبي", "AE"), ("عمّان", "JO"), ("الرباط", "MA")),
    ),
    Population(
        "he",
        3,
        _names("נועה=noa יוסי=yossi תמר=tamar דוד=david מיכל=michal איתן=eitan"),
        _names("כהן=cohen לוי=levi מזרחי=mizrahi פרץ=peretz ביטון=biton"),
        (("תל אביב", "IL"), ("חיפה", "IL")),
    ),
    Population(
        "pl",
        5,
        _names("Łukasz=lukasz Żaneta=zaneta Małgorzata=malgorzata Paweł=pawel Zofia Agnieszka"),
        _names("Wiśniewska=wisniewska Kamiński=kaminski Dąbrowski=dabrowski Zając=zajac Nowak Król=krol"),
        (("Łódź", "PL"), ("Kraków", "PL"), ("Gdańsk", "PL")),
    ),
)

DOMAINS = ("mail.example", "post.example", "inbox.example", "kunden.example", "letters.example", "eposta.example")
"""Under the reserved top-level domain: nobody can ever have a mailbox there (RFC 2606)."""
